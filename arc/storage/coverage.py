"""Where the files of a measurement end and its buffered rows begin, on a node that may lack some of the files.

A row is answered from a file or from the buffer, never from both and never from neither (DURABILITY 6). While a file
cannot be read here, the node leaves it out and answers the rows it covers from the buffer, if they are still there; so
the switch from one to the other is one step, taken whenever the question is asked anew.

Pure: the catalog's facts and a predicate go in, one number comes out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from arc.storage.files import FileEntry


def split(files: Iterable[FileEntry], *, mark: int, floor: int, is_readable: Callable[[str], bool]) -> int:
    """The sequence up to which files answer; above it the buffer does, which holds every row above ``floor``.

    It is the flush mark where all files above the floor can be read. A result below ``floor`` means that rows are
    neither in a file that can be read here nor in the buffer.
    """
    if floor >= mark:
        return mark
    above = [file for file in files if file.last_sequence > floor]
    cut = min((file.first_sequence - 1 for file in above if not is_readable(file.path)), default=mark)
    # A file that lies on both sides (compacted) is left out as a whole.
    while astride := [file.first_sequence - 1 for file in above if file.first_sequence <= cut < file.last_sequence]:
        cut = min(astride)
    return cut
