"""`python -m pipelines` is `dovetail`."""

import sys

from pipelines.cli.main import main

sys.exit(main())
