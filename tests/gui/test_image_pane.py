"""The labels over an image do not cover one another, however narrow its pane."""

import numpy as np
import pytest

from deepblur_live.gui.image_pane import ImagePane


@pytest.mark.parametrize("width", [120, 190, 260, 640])
def test_labels_over_the_image_do_not_cover_one_another(qtbot, width):
    pane = ImagePane(100.0)
    qtbot.addWidget(pane)
    pane.resize(640, 300)
    pane.show()
    pane.show_image(np.zeros((512, 512), np.uint16), "deblurred   100 – 2345", (0, 1))
    pane.set_readout("frame 12345   1:02:03")
    pane.set_badge("FROZEN")
    pane.resize(width, 300)
    pane.paint_if_needed()
    labels = [pane._caption, pane._badge, pane._readout, pane._scale]
    assert not any(label.isHidden() for label in labels)
    for k, one in enumerate(labels):
        assert one.x() >= 0 and one.y() >= 0
        for other in labels[:k]:
            assert not one.geometry().intersects(other.geometry())
    # Side by side where there is room.
    apart = pane._scale.y() - pane._readout.y()
    assert (abs(apart) < 3) == (width == 640)
