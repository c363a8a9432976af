"""What a sweep adds up, against the model written down atom by atom in double precision."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from flows.model.population import ACTIVITY_WEIGHTS, COMMON_SHARES, Curves, Sums, first_curves
from flows.model.posterior import Counts, Evidence, log_view, sweep
from flows.model.shapes import BINS, EVERYONE, HOURS, LEVEL_COUNT, LEVELS, Floats

PEOPLE = 7
DIGITS = 2e-6  # of exponentials in single precision


def curves() -> Curves:
    return replace(first_curves(), activity_weight=0.4)


def counted(seed: int, *, sends: float = 0.3, activity: float = 0.2) -> Counts:
    """Invented people: nobody is sent anything at night, and the first two are never active."""
    rng = np.random.default_rng(seed)
    sent = rng.poisson(sends, (PEOPLE, BINS)).astype(np.float64)
    sent[:, :7] = sent[:, HOURS : HOURS + 7] = 0.0
    active = rng.poisson(activity, (PEOPLE, BINS)).astype(np.float64)
    active[:2] = 0.0
    return Counts(
        sent=sent,
        answered=rng.binomial(sent.astype(np.int64), 0.3).astype(np.float64),
        activity=active,
        preference=np.array([-1, 9, -1, 20, -1, -1, 8]),
    )


def written_down(counts: Counts, now: Curves) -> Floats:
    """Log share and likelihood of outcomes of each atom. Shapes: (n, L, J)."""
    logit = LEVELS[:, None, None] + now.curve[None]
    answer, silence = -np.logaddexp(0.0, -logit), -np.logaddexp(0.0, logit)
    atoms = np.einsum("nb,ljb->nlj", counts.answered, answer)
    atoms += np.einsum("nb,ljb->nlj", counts.sent - counts.answered, silence)
    return np.asarray(atoms + np.log(now.share))


def views(counts: Counts, now: Curves, weight: float) -> Floats:
    """Log of what activity and preferences say. Shapes: (n, J)."""
    said = weight * counts.activity @ now.log_activity.T
    for row in np.flatnonzero(counts.preference >= 0):
        said[row] += now.log_preference[:, counts.preference[row]]
    return np.asarray(said)


def log_sum(values: Floats) -> Floats:
    """Over all but people. Shapes: (n, ...) to (n,)."""
    return np.asarray(np.logaddexp.reduce(values.reshape(len(values), -1), axis=1))


def swept(counts: Counts, now: Curves, evidence: Evidence | None = None) -> tuple[Sums, Floats]:
    sums = Sums.zero()
    whole = sweep(counts, now, evidence or Evidence.of(counts, now), sums)
    return sums, whole


def test_a_sweep_adds_up_what_the_model_says() -> None:
    counts, now = counted(1), curves()
    joint = written_down(counts, now) + views(counts, now, now.activity_weight)[:, None]
    weight = np.exp(joint - log_sum(joint)[:, None, None])
    answer = now.answer.reshape(LEVEL_COUNT, -1, BINS)
    expected = np.einsum("nlj,nb,ljb->jb", weight, counts.sent, answer)
    grip = np.einsum("nlj,nb,ljb->jb", weight, counts.sent, answer * (1.0 - answer))

    sums, whole = swept(counts, now)

    assert np.allclose(log_sum(joint), whole, rtol=0, atol=DIGITS)
    assert np.allclose(weight.sum(axis=0), sums.weight, rtol=0, atol=DIGITS)
    assert np.allclose(weight.sum(axis=1).T @ counts.answered, sums.seen, rtol=0, atol=1e-5)
    assert np.allclose(expected, sums.expected, rtol=0, atol=1e-5)
    assert np.allclose(grip, sums.grip, rtol=0, atol=1e-5)
    assert PEOPLE == sums.people[0]
    assert np.array_equal(counts.activity.sum(axis=0), sums.activity_all)


def test_views_are_judged_by_how_well_they_foretell_outcomes() -> None:
    """Also of people who were never active, of whom all weights say the same."""
    counts, now = counted(2), curves()
    share = np.log(now.share.sum(axis=0))
    atoms = np.logaddexp.reduce(written_down(counts, now), axis=1)
    scores = []
    for weight in ACTIVITY_WEIGHTS:
        said = views(counts, now, float(weight))
        scores.append(float((log_sum(atoms + said) - log_sum(share + said)).sum()))

    assert np.allclose(scores, swept(counts, now)[0].view_score, rtol=0, atol=20 * DIGITS)


def test_shares_of_the_common_curve_are_judged_by_how_well_they_foretell_outcomes() -> None:
    counts, now = counted(3), curves()
    atoms = np.logaddexp.reduce(written_down(counts, now), axis=1)
    atoms -= np.log(now.share.sum(axis=0))  # likelihood of each shape
    said = views(counts, now, now.activity_weight)
    scores = []
    for common in COMMON_SHARES:
        share = now.share.sum(axis=0)
        share = share * (1.0 - common) / (1.0 - share[EVERYONE])
        share[EVERYONE] = common
        prior = np.log(share) + said
        scores.append(float((log_sum(prior + atoms) - log_sum(prior)).sum()))
    found = swept(counts, now)[0].common_score

    assert np.allclose(np.diff(scores), np.diff(found), rtol=0, atol=20 * DIGITS)


def test_evidence_of_two_windows_is_that_of_all_outcomes() -> None:
    past, recent, now = counted(4, sends=2.0), counted(5), curves()
    both = past.with_more(recent)

    evidence, past_alone, recent_alone = Evidence.of_parts(past, recent, now)

    assert np.allclose(Evidence.of(both, now).shape, evidence.shape, rtol=0, atol=DIGITS)
    assert np.allclose(Evidence.of(past, now).shape, past_alone, rtol=0, atol=DIGITS)
    assert np.allclose(Evidence.of(recent, now).shape, recent_alone, rtol=0, atol=DIGITS)
    assert np.allclose(swept(both, now)[0].grip, swept(both, now, evidence)[0].grip, atol=1e-5)


def test_windows_that_contradict_each_other_are_weighed_together_all_the_same() -> None:
    """No digits are left of both exponentials: somebody never answered, and now always does."""
    past, recent, now = counted(6), counted(7), curves()
    past.sent[3, 12], past.answered[3, 12] = 1_000.0, 0.0
    recent.sent[3, 12], recent.answered[3, 12] = 300.0, 300.0
    both = past.with_more(recent)

    evidence, *_ = Evidence.of_parts(past, recent, now)

    assert np.allclose(Evidence.of(both, now).shape, evidence.shape, rtol=0, atol=1e-5)
    assert np.allclose(swept(both, now)[0].weight, swept(both, now, evidence)[0].weight, atol=1e-5)


def test_people_beside_others_are_weighed_as_alone() -> None:
    one, other, now = counted(8), counted(9), curves()

    both = Evidence.of(one, now).beside(Evidence.of(other, now))

    for evidence, counts, where in ((both, one, slice(PEOPLE)), (both, other, slice(PEOPLE, None))):
        alone = Evidence.of(counts, now).weigh(log_view(counts, now))
        view = np.concatenate([log_view(one, now), log_view(other, now)], axis=1)
        for ours, theirs in zip(evidence.weigh(view), alone, strict=True):
            assert np.allclose(theirs, ours[..., where], rtol=0, atol=1e-12)
