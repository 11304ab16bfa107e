"""What a run does while another one holds its folder: a word that commands and flows share.

Apart from `workspace`, which holds the lock, because the command line imports nothing heavy.
"""

from typing import Literal

WhenBusy = Literal["wait", "refuse"]
