"""`python -m emgen.cli` is `emgen`."""

import sys

from emgen.cli.main import main

sys.exit(main())
