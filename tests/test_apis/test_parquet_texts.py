"""Texts that are not UTF-8 pass a binary column unchanged."""

import os

from hybridcls.apis.parquet_texts import raw_columns, text_values, texts_of


def test_texts_are_kept():
    texts = ['ü', os.fsdecode(b'\xff')]
    assert raw_columns(dict(a=texts, b=['ü', None], c=[1.5])) == {'a'}
    assert text_values(texts, raw=True) == ['ü'.encode(), b'\xff']
    assert texts_of(text_values(texts, raw=True)).tolist() == texts
    assert texts_of(text_values(['ü'], raw=False)).tolist() == ['ü']
    assert text_values([None], raw=True) == [None]
