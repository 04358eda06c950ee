"""Numbers within bounds, as options of operators are annotated."""

from typing import Annotated

from rag.bounds import Bounds

Count = Annotated[int, Bounds(low=1)]
Some = Annotated[int, Bounds(low=0)]
Share = Annotated[float, Bounds(0, 1)]
Weight = Annotated[float, Bounds(low=0)]
