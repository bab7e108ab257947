"""The catalog: creates losses from their text forms and lists all of them."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple, cast

from lossmith import losses
from lossmith.learned import AdaptiveLoss, AdaptiveRegressionLoss, FrozenLoss, LearnedLoss, ML3Loss
from lossmith.learned.frozen import source_of
from lossmith.losses.base import ClassificationLoss
from lossmith.losses.loss import Kind, Loss
from lossmith.losses.text import SUM, LossText, LossTextError, Term, Tune, Value, parse_loss, sum_text, terms_of
from lossmith.losses.text_file import text_in
from lossmith.losses.wrapper import Wrapper

_CLASSES: Final[tuple[type[Loss], ...]] = (
    losses.CrossEntropyLoss,
    losses.RootedLogisticLoss,
    losses.TemperedCrossEntropyLoss,
    losses.MLoss,
    losses.ParamMLoss,
    losses.LLoss,
    losses.ParabolicLoss,
    losses.CircleLoss,
    losses.CosLoss,
    losses.MFullLoss,
    losses.LFullLoss,
    losses.NextGenerationLoss,
    losses.FocalLoss,
    losses.PolyLoss,
    losses.GeneralizedCrossEntropyLoss,
    losses.MeanAbsoluteErrorLoss,
    losses.TaylorCrossEntropyLoss,
    losses.SymmetricCrossEntropyLoss,
    losses.BiTemperedLoss,
    losses.BrierLoss,
    losses.LabelSmoothingLoss,
    losses.SparseLabelSmoothingLoss,
    losses.LogitAdjustedLoss,
    losses.FormulaLoss,
    losses.DynamicalLoss,
    losses.ScaledLoss,
    losses.SoftDiceLoss,
    losses.MeanSquaredErrorLoss,
    losses.HuberLoss,
    losses.AbsoluteErrorLoss,
    losses.SmoothAbsoluteErrorLoss,
    losses.LogCoshLoss,
    losses.QuantileLoss,
    losses.RootedGANLoss,
    AdaptiveLoss,
    AdaptiveRegressionLoss,
    ML3Loss,
)
_BY_NAME: Final = {cls.name: cls for cls in _CLASSES}


class LossInfo(NamedTuple):
    """An entry of the catalog.

    Attributes:
        name: the name that `create` accepts.
        kind: ``"classification"``, ``"segmentation"`` for losses of whole images, ``"regression"``, ``"gan"``, or
            ``"learned"`` for losses whose parameters have to be learned.
        text: the text form with the default values of the loss's own arguments. ``LOSS`` and ``EXPR`` mark where a
            wrapped loss or an expression goes.
        summary: the first sentence of its docstring.
        formula: what the class states, in the names of its arguments; ``None`` if it has no statement.
        loss_class: the class.
    """

    name: str
    kind: Kind
    text: str
    summary: str
    formula: str | None
    loss_class: type[Loss]


def available(kind: Kind | None = None) -> list[LossInfo]:
    """List the losses.

    Args:
        kind: the kind to list; ``None`` lists all kinds.

    Returns:
        One `LossInfo` per loss, in the order of the documentation.
    """
    return [_info(cls) for cls in _CLASSES if kind in {None, cls.kind}]


def create(spec: str | LossText, **arguments: Any) -> Loss:
    """Create a loss from its text form.

    Args:
        spec: the text form, for example ``"rooted:k=3"``, ``"dynamical(focal:gamma=1):amplitude=20,period=100"`` or
            ``"cross_entropy+0.5*soft_dice"``, or ``"@path"`` for a file: a learned loss that was saved, or a line of
            text that holds a text form, such as the ``best.loss`` of `lossmith evolve`.
        **arguments: further constructor arguments, which override those in the text. For classification losses they
            include the common ones, such as ``weight`` and ``reduction``. A learned loss that was saved takes none.

    Returns:
        The loss, a `torch.nn.Module`. ``create(loss.text)`` creates it again.

    Raises:
        ValueError: if the text is malformed, the name or an argument is unknown (the message suggests the nearest), or
            a value is out of range.
    """
    text = _parse(spec)
    if text.name.startswith("@"):
        return _saved(text, arguments)
    if text.name == SUM:
        return _sum(list(_terms(text)), arguments)
    cls = _lookup(text.name)
    given: dict[str, Any] = dict(text.arguments) | arguments
    if issubclass(cls, Wrapper):
        own = {name: given.pop(name) for name in list(given) if name in cls.defaults()}
        return _construct(cls, own, base=_create_base(text.inner or losses.CrossEntropyLoss.name, cls, given))
    if issubclass(cls, losses.FormulaLoss):
        if text.inner is None:
            raise LossTextError("formula needs an expression in brackets, such as formula(-y*log(p))")
        return _construct(cls, given, formula=text.inner)
    if text.inner is not None:
        raise LossTextError(f"{text.name} wraps no other loss: leave out the brackets after its name")
    return _construct(cls, given)


def canonical(spec: str) -> str:
    """Normalise a text form: sort the arguments and drop the defaults, but keep ``?``.

    Args:
        spec: the text form of one loss.

    Returns:
        The canonical text form; all spellings of a loss have the same one.

    Raises:
        ValueError: for the same reasons as `create`.
    """
    text = _parse(spec)
    if text.name.startswith("@"):
        return _saved(text, {}).text
    if text.name == SUM:
        terms = [Term(term.factor, canonical(term.text)) for term in _terms(text)]
        create(_without_tuned(sum_text(terms)))
        return str(sum_text(terms))
    cls = _lookup(text.name)
    tuned = tuple((name, value) for name, value in text.arguments if isinstance(value, Tune))
    for name, _ in tuned:
        _check_argument(cls, name)
    inner = None if text.inner is None or not issubclass(cls, Wrapper) else canonical(text.inner)
    rest = tuple((name, value) for name, value in text.arguments if not isinstance(value, Tune))
    untuned = None if inner is None else str(_without_tuned(parse_loss(inner)))
    fixed = parse_loss(create(LossText(text.name, text.inner if inner is None else untuned, rest)).text)
    shown = fixed.inner if inner is None or inner == untuned else inner
    return str(LossText(fixed.name, shown, tuple(sorted([*fixed.arguments, *tuned]))))


def defaults_of(name: str) -> dict[str, Any]:
    """The default of each argument of a loss.

    Raises:
        ValueError: if there is no loss of that name.
    """
    return _lookup(name).defaults()


def nearest(word: str, known: Iterable[str]) -> str:
    """Suggest the nearest known word, or list all of them."""
    known = list(known)
    close = difflib.get_close_matches(word.replace("-", "_").lower(), known, n=1, cutoff=0.5)
    return f"did you mean {close[0]!r}?" if close else f"choose one of {', '.join(known)}"


def opened(text: LossText) -> LossText:
    """A loss, or if it is ``@path`` of a text file, the loss that the file holds.

    Raises:
        ValueError: if the file cannot be read or does not hold the text form of a loss.
    """
    if not text.name.startswith("@"):
        return text
    try:
        source = source_of(text.name[1:])
        held = text_in(Path(source.partition("#")[0]))
        if held is None:
            return text
        for term in terms_of(held):
            _lookup(parse_loss(term.text).name)
        return parse_loss(held)
    except (OSError, ValueError) as error:
        raise _not_saved(text, error) from None


def _parse(spec: object) -> LossText:
    if not isinstance(spec, str | LossText):
        raise LossTextError(f"a loss is given by its text form, such as 'rooted:k=3', not by {spec!r}")
    return opened(parse_loss(spec) if isinstance(spec, str) else spec)


def _terms(text: LossText) -> Iterator[Term]:
    """The terms of a sum, with those of a sum that a file holds in place of the file."""
    for term in terms_of(str(text)):
        inside = _parse(term.text)
        for each in terms_of(str(inside)) if inside.name == SUM else [Term(1.0, term.text)]:
            yield Term(term.factor * each.factor, each.text)


def _lookup(name: str) -> type[Loss]:
    if name not in _BY_NAME:
        raise LossTextError(f"unknown loss {name!r}: {nearest(name, _BY_NAME)}")
    return _BY_NAME[name]


def _saved(text: LossText, arguments: dict[str, Any]) -> FrozenLoss | AdaptiveRegressionLoss:
    """Load a learned loss from a file written by `LearnedLoss.save`, without unpickling anything."""
    if arguments:
        raise LossTextError(f"{text} is a saved loss and takes no arguments: leave out {', '.join(arguments)}")
    try:
        from safetensors import SafetensorError, safe_open

        source = source_of(text.name[1:])
        with safe_open(source.partition("#")[0], framework="pt") as file:
            name = (file.metadata() or {}).get("loss", "")
            weights = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (not a mapping)
        loss = create(name)
        if not isinstance(loss, AdaptiveLoss | AdaptiveRegressionLoss):
            raise ValueError("it names another kind of loss")
        loss.load_state_dict(weights)
    except (OSError, SafetensorError, ValueError, RuntimeError) as error:
        raise _not_saved(text, error) from None
    frozen = loss.freeze()
    frozen.source = source
    return frozen


def _not_saved(text: LossText, error: Exception) -> LossTextError:
    reason = str(error).partition("\n")[0][:100]
    return LossTextError(
        f"{text.name!r} is not a saved loss ({reason}): give a file written by save(), or one with the text form of a "
        "loss in one line"
    )


def _sum(terms: Sequence[Term], arguments: dict[str, Any]) -> losses.SumLoss:
    """Create a sum, each of whose losses receives the common arguments."""
    for name in arguments:
        _check_argument(ClassificationLoss, name)
    parts = [create(term.text, **arguments) for term in terms]
    for part, term in zip(parts, terms, strict=True):
        if not isinstance(part, ClassificationLoss):
            raise LossTextError(f"{term.text!r} cannot be added: only classification losses without a schedule can")
    return losses.SumLoss(cast("list[ClassificationLoss]", parts), [term.factor for term in terms])


def _check_argument(cls: type[Loss], name: str) -> None:
    if name not in cls.defaults():
        named = getattr(cls, "name", "a sum")
        hint = "; how it is learned is said in `lossmith train` or `compare`" if issubclass(cls, LearnedLoss) else ""
        raise LossTextError(f"{named} has no argument {name!r}: {nearest(name, cls.defaults())}{hint}")


def _create_base(text: str, wrapper: type[Loss], arguments: dict[str, Any]) -> ClassificationLoss:
    """Create the loss inside a wrapper, which receives the common arguments given to the wrapper."""
    for name in arguments:
        if name not in ClassificationLoss.defaults():
            _check_argument(wrapper, name)
    base = create(text, **arguments)
    if not isinstance(base, ClassificationLoss):
        raise LossTextError(f"{wrapper.name} wraps a classification loss, which {text!r} is not")
    return base


def _construct(cls: type[Loss], arguments: dict[str, Any], **in_brackets: Any) -> Loss:
    for name, value in arguments.items():
        _check_argument(cls, name)
        if isinstance(value, Tune):
            raise LossTextError(
                f"{name}=? in {cls.name} asks for tuning, which only `lossmith compare` does: give a value"
            )
    defaults = cls.defaults()
    # For an argument whose values are words, `none` is a word too.
    words = {n: "none" for n, value in arguments.items() if value is None and isinstance(defaults.get(n), str)}
    try:
        return cls(**in_brackets, **arguments | words)
    except ValueError as error:
        raise ValueError(f"{cls.name}: {error}") from None


def _without_tuned(text: LossText) -> LossText:
    if text.name == SUM:
        return sum_text([Term(term.factor, str(_without_tuned(parse_loss(term.text)))) for term in terms_of(str(text))])
    inner = text.inner
    if inner is not None and issubclass(_lookup(text.name), Wrapper):
        inner = str(_without_tuned(parse_loss(inner)))
    return LossText(text.name, inner, tuple((n, value) for n, value in text.arguments if not isinstance(value, Tune)))


def _info(cls: type[Loss]) -> LossInfo:
    common = inspect.signature(ClassificationLoss).parameters
    own = tuple(
        (name, cast("Value", default))
        for name, default in cls.defaults().items()
        if name not in common and default is not None
    )
    inner = "LOSS" if issubclass(cls, Wrapper) else "EXPR" if issubclass(cls, losses.FormulaLoss) else None
    summary = (inspect.getdoc(cls) or "").partition("\n")[0]
    text = str(LossText(cls.name, inner, tuple(sorted(own))))
    return LossInfo(cls.name, cls.kind, text, summary, vars(cls).get("statement"), cls)
