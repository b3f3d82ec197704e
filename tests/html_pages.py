"""Read a page as a browser does, and raise for what is not well formed."""

import html.parser

VOID = {'meta', 'img', 'br', 'link', 'use', 'path', 'input'}


class Balanced(html.parser.HTMLParser):
    """Notes addresses, and raises for a tag that is not closed."""

    def __init__(self):
        super().__init__()
        self.open, self.addresses, self.ids, self.without_alt = [], [], [], 0

    def handle_starttag(self, tag, attributes):
        values = dict(attributes)
        self.addresses += [values[key] for key in ('src', 'href', 'xlink:href') if values.get(key)]
        self.ids += [values['id']] if 'id' in values else []
        self.without_alt += tag == 'img' and 'alt' not in values
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.handle_starttag(tag, attributes)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def read_page(text):
    """Return what was found."""
    page = Balanced()
    page.feed(text)
    assert not page.open
    assert not page.without_alt
    assert len(set(page.ids)) == len(page.ids)
    return page
