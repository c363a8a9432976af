"""Python runs this before a program when this folder is on its path: the tests' way in.

It reaches a child's children, too, which a changed command line would not.
"""

import os

if os.environ.get("TEST_AIRSIDE_CLOCK"):
    import tests.chaos.clock

    tests.chaos.clock.carry_out_as_told()

if os.environ.get("TEST_AIRSIDE_SABOTAGE"):
    import tests.chaos.sabotage

    tests.chaos.sabotage.carry_out(os.environ["TEST_AIRSIDE_SABOTAGE"])
