"""What may differ between two of these robots: every range with its unit and its reason."""

from sim.variations import Variation

CAMERA_KG = Variation(
    name="camera_kg",
    unit="kg",
    nominal=0.4,
    train=(0.3, 0.7),
    beyond=(0.2, 1.2),
    why="from a webcam to a mirrorless camera",
)
LENS_M = Variation(
    name="lens_m",
    unit="m",
    nominal=0.04,
    train=(0.03, 0.06),
    beyond=(0.0, 0.09),
    why="how far in front of the tilt axis the weight lies: a longer lens, another plate",
)
GAIN_PAN = Variation(
    name="gain_pan",
    unit="x",
    nominal=1.0,
    train=(0.6, 1.2),
    beyond=(0.3, 1.2),
    why="stiffness and torque of a worn or hot servo, or of a low battery",
    log=True,
)
GAIN_TILT = Variation(
    name="gain_tilt",
    unit="x",
    nominal=1.0,
    train=(0.6, 1.2),
    beyond=(0.3, 1.2),
    why="as gain_pan",
    log=True,
)
FRICTION = Variation(
    name="friction",
    unit="x",
    nominal=1.0,
    train=(0.5, 2.0),
    beyond=(0.5, 4.0),
    why="dry friction of the gears: dust, wear",
    log=True,
)
CABLE = Variation(
    name="cable_n_m_rad",
    unit="N m/rad",
    nominal=0.0,
    train=(0.0, 0.0),
    beyond=(0.0, 1.0),
    why="a stiff cable pulls the head back to the middle: a way to fail that no training task has",
)

VARIATIONS = (CAMERA_KG, LENS_M, GAIN_PAN, GAIN_TILT, FRICTION)
HELD_OUT = (CABLE,)
