"""What the business does with a prediction: readable rules around a model, with what each action earns or costs.

    @decision(model="reorder", currency="GBP", entity="customer_id", default="wait",
              values={"reserve": {True: 2.0, False: -1.2}, "wait": {True: 0.0, False: 0.0}})
    def reserve(prediction: float, context: dict, likely: float = 0.6) -> Action:
        if prediction >= likely:
            return Action("reserve", rule="likely to return")
        return Action("wait", rule="not likely enough")

A decorated function stays callable in a test or a notebook, without Sampan running. This module imports nothing
but the error tree, so that importing ``decisions.py`` costs next to nothing.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final, NamedTuple, TypeAlias

from sampan.base.errors import BadWorkspace, Usage

#: The file of a workspace that declares decisions.
ENTRY: Final = "decisions.py"
Threshold: TypeAlias = bool | int | float | str
Prediction: TypeAlias = float | str | dict[str, float]


class _Previous:
    """What was in force on the endpoint before."""

    def __repr__(self) -> str:
        return "PREVIOUS"


PREVIOUS: Final = _Previous()
#: What is said where the model cannot: a prediction, a function of the record that gives one, what served before.
Fallback: TypeAlias = "Prediction | list[float] | Callable[[Mapping[str, Any]], Any] | _Previous | None"

LONGEST: Final = 366 * 86_400.0  # seconds that people may be given
OVER: Final = ("review", "stop")  # what becomes of decisions beyond a cap
MOST: Final = 9  # actions to choose from: a key each
_PLAIN: Final = (bool, int, float, str)


class Question(NamedTuple):
    """What people are asked about a case: which of the ``choices`` to take, within so many seconds."""

    seconds: float
    choices: tuple[str, ...] = ()


class _Named(NamedTuple):
    name: str
    rule: str = ""


class Action(_Named):
    """What to do, and the rule that said so (shown on every prediction's page; empty: the action's own name): a pair of
    texts. ``question``: what people are asked besides; until they answer, and if they do not, the action stands."""

    question: Question | None

    def __new__(cls, name: str, rule: str = "", question: Question | None = None) -> "Action":
        made = super().__new__(cls, name, rule)
        made.question = question
        return made


def review(safe: str, rule: str = "", *, hours: float = 24.0, choices: Iterable[str] = ()) -> Action:
    """Send a case to people: do ``safe`` until one of them answers, and if nobody does within so many hours.

        if context["amount"] > costly:
            return review("decline", rule="too much for a rule alone", hours=4)

    ``choices``: what they may choose from; all actions that have values, if it is left out.
    """
    return Action(safe, rule, Question(hours * 3600.0, tuple(choices)))


class Cap(NamedTuple):
    """So much, in the decision's currency, may an endpoint's decisions put at risk in a day (UTC).

        cap=Cap(100_000, risks={"approve": "amount"}, hours=2)

    ``risks``: what each action puts at risk, an amount or the field of a record that holds it; left out, the most that
    it can lose by ``values``. What would go beyond takes the safe default instead; ``over`` says whether people are
    asked too (``"review"``, for so many ``hours``) or not (``"stop"``).
    """

    amount: float
    over: str = "review"
    hours: float = 24.0
    risks: Mapping[str, float | str] | None = None


class Decision:
    """A decision function with its declaration. Calling it runs the rules; thresholds may be given by name."""

    def __init__(
        self,
        function: Callable[..., Action],
        *,
        model: str,
        values: Mapping[str, Mapping[Any, float]] | None,
        currency: str,
        entity: str,
        default: str | None,
        context: Iterable[str] | None,
        fallback: Fallback = None,
        features: str = "",
        key: str = "",
        cap: Cap | None = None,
    ) -> None:
        self.function = function
        self.name = function.__name__
        self.model = model
        self.currency = currency
        self.entity = entity
        self.default = default
        self.context = None if context is None else tuple(context)
        self.fallback = fallback
        self.features, self.key = features, key
        if bool(features) != bool(key):
            raise BadWorkspace(
                self._attempt,
                f"features={features!r} and key={key!r}",
                "Give both: the table, and the field of a record that names its row; or neither.",
            )
        self.values = _plain_values(values or {}, self._attempt)
        self.thresholds = _thresholds(function, self._attempt)
        if default is not None and self.values and default not in self.values:
            raise BadWorkspace(self._attempt, f"the default action {default!r} is not in values", self._known())
        self.cap = None if cap is None else self._capped(cap)
        self.__name__ = function.__name__
        self.__doc__ = function.__doc__
        self.__module__ = function.__module__
        self.__wrapped__ = function

    @property
    def _attempt(self) -> str:
        return f"Declare the decision {self.name!r}"

    def _capped(self, cap: Cap) -> Cap:
        """A cap with what every action puts at risk. Raises BadWorkspace for one that could not be kept."""
        attempt = f"Declare the cap of the decision {self.name!r}"
        if (
            isinstance(cap.amount, bool)
            or not isinstance(cap.amount, int | float)
            or not 0 <= cap.amount < float("inf")
        ):
            raise BadWorkspace(attempt, f"its amount is {cap.amount!r}", "Give an amount: Cap(100_000).")
        if cap.over not in OVER:
            raise BadWorkspace(attempt, f"over={cap.over!r}", f"One of {', '.join(OVER)}.")
        if not 0 < cap.hours * 3600 <= LONGEST:
            raise BadWorkspace(attempt, f"it gives people {cap.hours:g} hours", f"Up to {LONGEST / 3600:g}.")
        if self.default is None:
            raise BadWorkspace(attempt, "no safe action is declared", "Say what is done beyond it: default=...")
        risks: dict[str, float | str] = {
            action: max(0.0, -min(outcomes.values(), default=0.0)) for action, outcomes in self.values.items()
        }
        for action, risk in (cap.risks or {}).items():
            if self.values and action not in self.values:
                raise BadWorkspace(attempt, f"risks names {action!r}, which is not in values", self._known())
            plain = isinstance(risk, int | float) and not isinstance(risk, bool) and 0 <= risk < float("inf")
            if not (plain or (isinstance(risk, str) and risk)):
                raise BadWorkspace(attempt, f"the risk of {action!r} is {risk!r}", "An amount, or a field's name.")
            risks[action] = risk if isinstance(risk, str) else float(risk)
        if not risks:
            raise BadWorkspace(attempt, "nothing says what an action puts at risk", "Declare values, or risks.")
        if risks.get(self.default):
            said = f"the safe action {self.default!r} puts {risks[self.default]!r} at risk itself"
            raise BadWorkspace(attempt, said, "Declare another default, or its risk as 0.")
        return Cap(float(cap.amount), cap.over, float(cap.hours), risks)

    def _known(self) -> str:
        return f"Declared actions: {', '.join(self.values)}."

    def __call__(self, prediction: Prediction, context: Mapping[str, Any], **thresholds: Threshold) -> Action:
        """The action for one prediction. Raises BadWorkspace if the function gives something undeclared."""
        action = self.function(prediction, context, **thresholds)
        if not isinstance(action, Action):
            raise BadWorkspace(
                f"Decide with {self.name!r}",
                f"it returned {action!r}, not an Action",
                'Return Action("name", rule="why") on every path.',
            )
        if self.values and action.name not in self.values:
            raise BadWorkspace(
                f"Decide with {self.name!r}", f"action {action.name!r} is not in its values", self._known()
            )
        question = None if action.question is None else self._asked(action, action.question)
        return Action(action.name, action.rule or action.name, question)

    def _asked(self, action: Action, question: Question) -> Question:
        """What people are asked, complete. Raises BadWorkspace if it cannot be asked."""
        attempt = f"Send a case of {self.name!r} to people"
        choices = tuple(dict.fromkeys(question.choices)) or tuple(self.values)
        if not 0 < question.seconds <= LONGEST:
            said = f"it gives them {question.seconds / 3600:g} hours"
            raise BadWorkspace(attempt, said, f"More than 0, up to {LONGEST / 3600:g}: review(..., hours=4).")
        if not 2 <= len(choices) <= MOST:
            said = f"it gives them {len(choices)} actions to choose from"
            raise BadWorkspace(attempt, said, f"From 2 to {MOST}: review(..., choices=('ship', 'hold')).")
        if odd := [one for one in choices if self.values and one not in self.values]:
            raise BadWorkspace(attempt, f"the choice {odd[0]!r} is not in its values", self._known())
        if action.name not in choices:
            raise BadWorkspace(attempt, f"the safe action {action.name!r} is none of its choices", "Add it to choices.")
        return Question(float(question.seconds), choices)

    def replay(self, cases: Iterable[tuple[Prediction, Mapping[str, Any]]], **thresholds: Threshold) -> list[Action]:
        """Actions for many (prediction, context) pairs: what these rules would have done."""
        return [self(prediction, context, **thresholds) for prediction, context in cases]

    def __repr__(self) -> str:
        return f"<decision {self.name} for model {self.model}>"


def decision(
    *,
    model: str,
    values: Mapping[str, Mapping[Any, float]] | None = None,
    currency: str = "",
    entity: str = "",
    default: str | None = None,
    context: Iterable[str] | None = None,
    fallback: Fallback = None,
    features: str = "",
    key: str = "",
    cap: Cap | None = None,
) -> Callable[[Callable[..., Action]], Decision]:
    """Declare a function as the decision taken on a model's predictions.

    ``values``: what each action earns (positive) or costs (negative), in ``currency``, per outcome.
    ``entity``: the field of a record that names whom the prediction is about.
    ``default``: the safe action taken when the function raises; without it such a request is answered with 500.
    ``context``: the fields of a record, besides the model's inputs and the entity, that the rules read; if given,
    any other field is refused. The function's parameters after the second are thresholds: data, not code.
    ``fallback``: what is said in the model's place where it raises or does not load: a prediction, a function that
    makes one of the record, both of which the rules then judge; or PREVIOUS, what was in force before, with its rules.
    ``features`` names the table that the model's inputs are taken from, ``key`` the field of a record, and the column
    of that table, which names the row: a replay looks up there what a changed definition would have given.
    ``cap``: how much its decisions may put at risk in a day.
    """

    def decorate(function: Callable[..., Action]) -> Decision:
        return Decision(
            function,
            model=model,
            values=values,
            currency=currency,
            entity=entity,
            default=default,
            context=context,
            fallback=fallback,
            features=features,
            key=key,
            cap=cap,
        )

    return decorate


def merge_thresholds(
    name: str, thresholds: Mapping[str, Threshold], changes: Mapping[str, Any]
) -> dict[str, Threshold]:
    """All thresholds in force under some changes. Raises Usage for an unknown name or another type."""
    merged = dict(thresholds)
    for threshold, value in changes.items():
        attempted = f"Set {threshold}={value!r} on the decision {name!r}"
        if threshold not in merged:
            raise Usage(attempted, f"it has no threshold {threshold!r}", f"Its own: {', '.join(merged) or 'none'}.")
        default = merged[threshold]
        if isinstance(default, float) and isinstance(value, int) and not isinstance(value, bool):
            value = float(value)
        if type(value) is not type(default):
            raise Usage(attempted, f"expected {_kind(default)}, got {_kind(value)}", f"Its default is {default!r}.")
        merged[threshold] = value
    return merged


def outcome_key(outcome: Any) -> str:
    """The text under which an outcome stands in a values table: ``true``, ``false``, ``3``, ``late``."""
    if isinstance(outcome, bool):
        return "true" if outcome else "false"
    if isinstance(outcome, float) and outcome.is_integer():
        return str(int(outcome))
    return str(outcome)


def expected_value(prediction: Prediction, outcomes: Mapping[str, float]) -> float | None:
    """What an action earns on average if the predicted probabilities hold; None where that is not defined.

    The expectation over outcomes o of value(action, o): Elkan, "The Foundations of Cost-Sensitive Learning",
    IJCAI 2001, equation 1.
    """
    if not outcomes:
        return None
    if isinstance(prediction, float) and outcomes.keys() == {"true", "false"}:
        return prediction * outcomes["true"] + (1.0 - prediction) * outcomes["false"]
    if isinstance(prediction, dict) and prediction.keys() <= outcomes.keys():
        return sum(share * outcomes[label] for label, share in prediction.items())
    return None


def _plain_values(values: Mapping[str, Mapping[Any, float]], attempt: str) -> dict[str, dict[str, float]]:
    plain: dict[str, dict[str, float]] = {}
    for action, outcomes in values.items():
        plain[action] = {}
        for outcome, value in outcomes.items():
            if isinstance(value, bool) or not isinstance(value, (int, float)):
                raise BadWorkspace(
                    attempt, f"the value of {action!r} when {outcome!r} is {value!r}, not a number", "Give an amount."
                )
            plain[action][outcome_key(outcome)] = float(value)
    if len({frozenset(outcomes) for outcomes in plain.values()}) > 1:
        listed = "; ".join(f"{action}: {', '.join(outcomes)}" for action, outcomes in plain.items())
        raise BadWorkspace(attempt, f"its actions name different outcomes ({listed})", "Give each outcome a value.")
    return plain


def _thresholds(function: Callable[..., Action], attempt: str) -> dict[str, Threshold]:
    code, defaults = function.__code__, function.__defaults__ or ()
    names = code.co_varnames[: code.co_argcount]
    if len(names) < 2:
        raise BadWorkspace(
            attempt,
            f"it takes {len(names)} parameters",
            "Its first two are the prediction and the context (the whole record asked about).",
        )
    found = dict(zip(names[len(names) - len(defaults) :], defaults, strict=True))
    for name in code.co_varnames[code.co_argcount : code.co_argcount + code.co_kwonlyargcount]:
        found[name] = (function.__kwdefaults__ or {}).get(name)
    for name in (*names[2:], *found):
        if name in names[:2]:
            continue
        if name not in found or not isinstance(found[name], _PLAIN):
            raise BadWorkspace(
                attempt,
                f"the threshold {name!r} has {'no default' if found.get(name) is None else repr(found[name])}",
                "Give each parameter after the second a number, a text or a bool as its default.",
            )
    return {name: value for name, value in found.items() if name not in names[:2]}


def _kind(value: Any) -> str:
    return {bool: "true or false", int: "a whole number", float: "a number", str: "a text"}.get(
        type(value), type(value).__name__
    )
