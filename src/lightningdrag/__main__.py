"""``python -m lightningdrag`` is ``lightningdrag``."""

from lightningdrag.commands import main

main()
