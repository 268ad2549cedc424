"""What the process imports that the processes of tests are forked from."""

import tests.losses.problems
import tests.train.fakes
import tests.train.interruption  # noqa: F401
