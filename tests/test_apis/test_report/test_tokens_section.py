"""What is saved is said of the whole model."""

import numpy as np

from hybridcls.apis.image_inputs import Item
from hybridcls.apis.report.merged_tokens import MergedImage, MergingReadings
from hybridcls.apis.report.tokens_section import tokens_section


def test_savings_and_drawings():
    pixels = np.zeros((8, 8, 3), np.uint8)
    image = MergedImage(Item('a/b.png', 'a/b.png'), pixels, [pixels])
    readings = MergingReadings('vit', "{'r': 2}", False, [17, 9], [1], [image], 3.0, 4.0)
    section = tokens_section(readings)
    assert ': 25 % less. Predictions use the merged tokens.' in section.says[0]
    assert 'merged only in the training' in tokens_section(readings._replace(in_training=True)).says[0]
    pictures = section.groups[0]['pictures']
    assert [one['alt'] for one in pictures] == ['b.png', 'b.png: tokens after block 1']
    assert section.groups[0]['large'] == 2
