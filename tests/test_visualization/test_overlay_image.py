"""Where a map is 0 the image stays grey; where it is 1 it is yellow, at that place."""

import numpy as np

from hybridcls.visualization.overlay_image import overlay_image


def test_the_map_is_where_it_belongs():
    image = np.full((30, 60, 3), (200, 40, 40), np.uint8)
    values = np.zeros((2, 4))
    values[0, 3] = 1
    drawn = overlay_image(image, values, 120)
    assert drawn.size == (120, 60)
    pixels = np.asarray(drawn, dtype=int)
    assert np.ptp(pixels[50, 5]) == 0  # grey
    red, green, blue = pixels[5, 115]
    assert red > 180
    assert green > 150
    assert blue < 100
