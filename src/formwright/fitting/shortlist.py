"""Candidates of the catalogue that can meet the budget, found by having them built and measured here."""

from __future__ import annotations

import dataclasses

from formwright.errors import LostError, StorageError, UserError
from formwright.fitting.costs import Cost
from formwright.fitting.records import Trial
from formwright.fitting.session import Session
from formwright.measurement.budget import Budget, format_bytes, format_count, format_seconds
from formwright.models.pretrained import titles
from formwright.search.space import Proposal

#: Of the whole time, how much measuring candidates may take, and the seconds that suffice.
SHORTLIST_SHARE, SHORTLIST_MOST = 0.12, 60.0
#: INT8 and folding make a model at most so much faster than its float32 export; measured on convolutional networks.
COMPRESSION_GAIN = 2.0
#: Of the time for training, what the winner gets for itself.
WINNERS_SHARE = 0.7
NO_COST = Cost(0, 0, 0.0, None, 0, 0, 0.0)


def shortlist(session: Session, training_seconds: float) -> None:
    """Propose a candidate a family, as wide as the budget and the time allow, and the user's own checkpoint.

    Raises:
        UserError: nothing can meet the budget; the message says what comes nearest.
    """
    state = session.folder.state
    space = session.task.space
    first = next((name for name, entry in space.families.items() if entry.fit is None), next(iter(space.families)))
    session.ready()
    session.save()  # the time used, should the run be killed here
    ladder = space.ladder(first)
    choose_precision(session, space.propose(first, **ladder[len(ladder) // 2]))
    affordable = affordable_sample(session, training_seconds)
    misses: dict[str, Cost] = {}
    trials: list[Trial] = []
    left_out: list[str] = []
    deadline = session.clock.spent + min(SHORTLIST_SHARE * session.clock.limit, SHORTLIST_MOST)
    weights = session.task.data.weights
    for place, title in enumerate(titles(weights)):
        for proposal in space.from_weights(weights[place].specification, place, title):
            trials.append(_from_weights(session, proposal, trials, misses))
    for index, family in enumerate(space.families):
        session.reporter.progress(index / len(space.families), family)
        session.save()
        learning = [trial for trial in trials if trial.status != "dropped" and not (trial.fitted or trial.teacher)]
        if learning and session.clock.spent > deadline:
            untried = list(space.families)[index:]
            session.note(
                f"Out of time: {len(untried)} of {len(space.families)} families were not tried ({', '.join(untried)})."
            )
            break
        try:
            found = widest(session, family, affordable, misses, trials)
        except StorageError:
            raise
        except UserError as error:  # a family that cannot take samples of this size
            left_out.append(f"{family} is left out: {error}")
            session.note(left_out[-1])
            continue
        if found is not None:
            trial = to_trial(len(trials), *found, session)
            trial.teacher = found[0].name in misses
            trials.append(trial)
    if all(trial.teacher or trial.status == "dropped" for trial in trials):
        left_out += [f"{trial.name} is left out: {trial.reason}" for trial in trials if trial.status == "dropped"]
        raise impossible(session, misses) if misses else UserError(f"{space.left_out}; {left_out[0]}")
    state.trials = trials
    session.save()


def _from_weights(session: Session, proposal: Proposal, trials: list[Trial], misses: dict[str, Cost]) -> Trial:
    """A candidate that starts from the user's checkpoint; one that cannot meet the budget may teach the others."""
    number, place = len(trials), proposal.choices["weights"]
    frozen = next((t for t in trials if t.proposal.get("frozen") and t.proposal["weights"] == place), None)
    if frozen is not None:  # measured already, and its classifier is what the others start with
        proposal.choices["head"] = frozen.number
    try:
        cost = confirm_latency(session, proposal, measure_candidate(session, proposal))
    except LostError as error:
        return drop(number, proposal, error, session)
    trial = to_trial(number, proposal, cost, session)
    missed = violations(cost, session.budget)
    if missed:
        misses[proposal.name] = cost
        trial.teacher = True
        session.note(f"{proposal.name} cannot meet the budget ({'; '.join(missed)}); the others may learn from it.")
    return trial


def widest(
    session: Session, family: str, affordable: float, misses: dict[str, Cost], trials: list[Trial]
) -> tuple[Proposal, Cost] | None:
    """The largest candidate of a family that meets the budget and whose training steps are affordable.

    Of a simple competitor that cannot meet the budget, it is the smallest one, and ``misses`` has it. One whose process
    is lost is added to ``trials`` as dropped, and smaller ones are tried.
    """
    space = session.task.space
    ladder = space.ladder(family)
    costs: dict[int, Cost | None] = {}

    def proposed(index: int) -> Proposal:
        return space.propose(family, **ladder[index])

    def cost_of(index: int, *, confirmed: bool = False) -> Cost | None:
        proposal = proposed(index)
        try:
            if index not in costs:
                costs[index] = measure_candidate(session, proposal)
            known = costs[index]
            if known is not None and confirmed:
                costs[index] = confirm_latency(session, proposal, known)
        except LostError as error:
            costs[index] = None
            trials.append(drop(len(trials), proposal, error, session))
        return costs[index]

    fitted = space.families[family].fit is not None
    low, high = 0, len(ladder) - 1
    while low < high:
        middle = (low + high + 1) // 2
        cost = cost_of(middle)
        if (
            cost is None
            or (not fitted and cost.step / proposed(middle).recipe.batch_size > affordable)
            or violations(cost, session.budget)
        ):
            high = middle - 1
        else:
            low = middle
    for index in range(low, -1, -1):
        cost = cost_of(index, confirmed=True)
        if cost is None:
            continue
        if not violations(cost, session.budget):
            return proposed(index), cost
        misses[proposed(index).name] = cost
    smallest = costs.get(0)
    return (proposed(0), smallest) if fitted and smallest is not None else None  # to stand beside what is shipped


def violations(cost: Cost, budget: Budget) -> list[str]:
    """How a candidate misses the budget even after compression."""
    found = []
    fastest = 0.0 if cost.onnx_latency is None else cost.onnx_latency / COMPRESSION_GAIN
    if budget.latency is not None and cost.onnx_latency is not None and fastest > budget.latency:
        found.append(f"latency {format_seconds(cost.onnx_latency)}")
    if budget.size is not None and cost.smallest_size > budget.size:
        found.append(f"size {format_bytes(cost.smallest_size)} even in INT8")
    if budget.macs is not None and cost.macs > budget.macs:
        found.append(f"{format_count(cost.macs)} MACs")
    return found


def measure_candidate(session: Session, proposal: Proposal) -> Cost:
    """MACs, size, latency of one sample and seconds of a training step of a candidate."""
    found = session.do(
        "measure",
        specification=proposal.specification.to_dict(),
        batch_size=proposal.recipe.batch_size,
        precision=session.precision,
    )
    return Cost(**found)


def confirm_latency(session: Session, proposal: Proposal, cost: Cost) -> Cost:
    """The cost with the latency of the exported model, where PyTorch's leaves it open whether the budget is met."""
    limit = session.budget.latency
    if limit is None or cost.eager_latency <= limit:
        return cost
    seconds = session.do("latency", specification=proposal.specification.to_dict())
    return dataclasses.replace(cost, onnx_latency=seconds)


def to_trial(number: int, proposal: Proposal, cost: Cost, session: Session) -> Trial:
    recipe = dataclasses.replace(proposal.recipe, precision=session.precision)
    return Trial(
        number=number,
        name=proposal.name,
        family=proposal.family,
        proposal=proposal.choices,
        specification=proposal.specification.to_dict(),
        recipe=dataclasses.asdict(recipe),
        parameters=cost.parameters,
        macs=cost.macs,
        eager_latency=cost.eager_latency,
        onnx_latency=cost.onnx_latency,
        size=cost.size,
        step=cost.step,
        fitted=is_fitted(session, proposal),
    )


def is_fitted(session: Session, proposal: Proposal) -> bool:
    """Whether a solver finds all that the candidate learns."""
    if "weights" in proposal.choices:
        return bool(proposal.choices.get("frozen"))
    return session.task.space.families[proposal.family].fit is not None


def drop(number: int, proposal: Proposal, error: LostError, session: Session) -> Trial:
    """A candidate that could not even be measured."""
    trial = to_trial(number, proposal, NO_COST, session)
    trial.status, trial.reason = "dropped", str(error)
    return trial


def affordable_sample(session: Session, training_seconds: float) -> float:
    """Seconds that training on a sample may take, for training to be long enough in the time there is."""
    return WINNERS_SHARE * training_seconds / session.task.data.worthwhile_samples


def choose_precision(session: Session, proposal: Proposal) -> None:
    """Train in bfloat16 where a timed step of a candidate is faster with it on this machine."""
    batch_size = proposal.recipe.batch_size
    try:
        session.precision = session.do("setting", specification=proposal.specification.to_dict(), batch_size=batch_size)
    except LostError as error:
        session.note(f"Whether bfloat16 is faster here is not known, so it is not used: {error}")
    session.folder.state.facts["precision"] = session.precision
    if session.precision == "bf16-mixed":
        session.note("Training in bfloat16, which is faster on this machine.")


def impossible(session: Session, costs: dict[str, Cost]) -> UserError:
    """The error for a budget that nothing can meet: says the nearest reachable one and who reaches it."""
    budget = session.budget

    def excess(cost: Cost) -> float:
        latency = (cost.onnx_latency or cost.eager_latency) / budget.latency if budget.latency else 0.0
        size = cost.smallest_size / budget.size if budget.size else 0.0
        macs = cost.macs / budget.macs if budget.macs else 0.0
        return max(latency, size, macs)

    name = min(costs, key=lambda key: excess(costs[key]))
    nearest = costs[name]
    reached = []
    if budget.latency is not None:
        seconds = nearest.onnx_latency or nearest.eager_latency
        reached.append(f"{format_seconds(seconds)} (measured)")
    if budget.size is not None:
        reached.append(f"{format_bytes(nearest.smallest_size)} in INT8")
    if budget.macs is not None:
        reached.append(f"{format_count(nearest.macs)} MACs")
    return UserError(
        f"No candidate can meet the budget ({budget}) on this machine; the nearest is {name} with "
        f"{', '.join(reached)}: raise the budget at least to that."
    )
