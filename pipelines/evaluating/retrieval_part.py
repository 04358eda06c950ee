"""The part of a pipeline that data without answers can judge: all before its last generator."""

from dataclasses import replace

from pipelines.flow.blocks import Step
from pipelines.flow.pipeline import Pipeline


def without_generation(pipeline: Pipeline) -> tuple[Pipeline, tuple[str, ...]]:
    """Return a pipeline that ends where its passages are ready, and the ids of what was left out.

    The last generator that stands in the flow itself is left out with all that follows it, and what
    it would have read becomes the output. A generator inside a loop or an arm, whose words later
    steps search with, stays. A pipeline without such a generator is returned as it is.

    Args:
        pipeline: without mistakes.
    """
    steps = pipeline.definition.steps
    checked = pipeline.checked
    for row in reversed(range(len(steps))):
        step = steps[row]
        bound = checked.steps.get(step.id) if isinstance(step, Step) else None
        if bound is None or not (bound.spec.streams and "passages" in bound.inputs):
            continue
        left_out = tuple(
            getattr(one, "id", "") or type(one).__name__.lower() for one in steps[row:]
        )
        definition = replace(
            pipeline.definition, steps=steps[:row], outputs=(bound.inputs["passages"],)
        )
        return pipeline.with_definition(definition), left_out
    return pipeline, ()
