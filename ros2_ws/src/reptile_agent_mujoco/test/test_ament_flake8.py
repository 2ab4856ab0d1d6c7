"""The package's style, by ament_flake8."""

from pathlib import Path

import pytest

CONFIG = Path(__file__).parents[2] / 'ament_flake8.ini'


@pytest.mark.linter
def test_ament_flake8():
    flake8 = pytest.importorskip('ament_flake8.main')
    status, errors = flake8.main_with_errors(argv=['--config', str(CONFIG)])
    assert status == 0, '\n'.join(errors)
