"""Whether a loss that learns does more than change the learning rate, or than any loss of its kind would do."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from lossmith.comparison.arms import Arm
from lossmith.comparison.estimator import Estimator
from lossmith.comparison.headlines import Claim
from lossmith.comparison.verdict import ALPHA, SCOPE, points_with_interval

ADAPTS = Claim(
    "a loss that learns online is above its rate replay and above its loss replay, p < .05 each",
    f"{{name}} adapts: {{rate}} against its own learning rates replayed with the base loss, {{loss}} against the "
    f"course of the loss under another seed replayed, {SCOPE}",
)
NOT_SHOWN = Claim(
    "both replays were compared, and it is not",
    f"That {{name}} adapts was not shown: {{rate}} against its own learning rates replayed with the base loss, "
    f"{{loss}} against the course of the loss under another seed replayed, {SCOPE}",
)


def adaptation(arms: Sequence[Arm], trained: Collection[str], estimator: Estimator) -> tuple[str, ...]:
    """`ADAPTS` or `NOT_SHOWN` for each loss that was compared with both of its replays.

    Args:
        arms: what was compared.
        trained: names of the arms that could be trained.
        estimator: of the differences between them.

    Returns:
        Sentences, in the order of the arms.
    """
    names = {(arm.replays, arm.replay): arm.name for arm in arms if arm.name in trained}
    said = []
    for arm in arms:
        replays = [names.get((arm.loss, "rate")), names.get((arm.loss, "loss"))]
        if arm.role == "control" or arm.name not in trained or None in replays:
            continue
        gaps = [estimator.difference(arm.name, replay) for replay in replays if replay is not None]
        shown = all(gap.p_value is not None and gap.p_value < ALPHA and gap.mean > 0 for gap in gaps)
        rate, loss = (points_with_interval(gap, 0.95) for gap in gaps)
        said.append((ADAPTS if shown else NOT_SHOWN).sentence.format(name=arm.name, rate=rate, loss=loss))
    return tuple(said)
