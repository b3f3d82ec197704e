"""Format configs as text only once: mmengine formats them for every checkpoint, half a second each."""

from functools import lru_cache

from mmengine.config import Config

__all__ = ['TextOnce']

# mmengine's.
_STYLE = dict(
    based_on_style='pep8',
    blank_line_before_nested_class_or_def=True,
    split_before_expression_after_opening_paren=True,
)


class TextOnce(Config):
    """A config whose formatted text is cached by content; made with ``format_python_code=False``."""

    @property
    def pretty_text(self) -> str:
        """The text of the config, identical to that of mmengine's Config."""
        return _laid_out(super().pretty_text)


@lru_cache(maxsize=8)
def _laid_out(text: str) -> str:
    from yapf.yapflib.yapf_api import FormatCode

    try:
        return FormatCode(text, style_config=_STYLE)[0]
    except Exception as error:
        raise SyntaxError(f'Failed to format the config file, please check the syntax of: \n{text}') from error
