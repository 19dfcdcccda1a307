"""What all label maps agree on."""

from __future__ import annotations

#: Class of a pixel that is neither fitted on nor counted.
IGNORE = 255
