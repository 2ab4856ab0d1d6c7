"""The package's docstrings, by ament_pep257: as Google writes them."""

import pytest


@pytest.mark.linter
def test_ament_pep257():
    pep257 = pytest.importorskip('ament_pep257.main')
    argv = ['.', '--convention', 'google', '--add-ignore', 'D107', '--exclude', 'test']
    assert pep257.main(argv=argv) == 0, 'see above'
