"""What the process imports that trainings are forked from."""

import tests.train.fakes
import tests.train.test_resume  # noqa: F401
