"""One lane's delivery times: everything that it remembers, and what each block leads to."""

from __future__ import annotations

import hashlib
import pickle
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, Final

import msgspec
import numpy as np

from flows.model.calibration import Calibration
from flows.model.exchange import UnreadableStateError
from flows.steps.accept import ERASURE_TOPIC, MODEL_TOPIC, PROFILE_TOPIC
from flows.steps.keep import Kept, OpenJournal
from flows.timing.clusters import LaneClusters, cluster_rows
from flows.timing.desk import Desk
from flows.timing.ears import Ears
from flows.timing.feedback import NO_SLOT, Feedback, Lesson
from flows.timing.learners import Counting, Fading, Kind, Pooling, take_in
from flows.timing.people import PeopleTable
from flows.timing.plans import Plans
from flows.timing.record import RESULTS_TOPIC, Writer, last_origin, note
from flows.timing.rows import decision_rows, outcome_rows
from flows.timing.rules import LaneRules, Tally
from flows.timing.share import VERSION as SHARD_VERSION
from flows.timing.share import Shard, Shards
from flows.timing.shelves import Shelves
from flows.timing.trial import Trial
from flows.timing.upgrade import STATE_VERSION, read_state, unreadable
from flows.timing.waiting import Waiting
from schemas.blocks import AcceptedBlock, Followed, OutRecord, Rows
from schemas.policy import Training

KEPT_AFTER_ALARM: Final = 0.5
"""Share of everybody's past that stays when outcomes stop being what was expected."""

PROGRESSIVE_MAX: Final = 32
"""Outcomes of a block that are predicted anew before they are learned: the first ones."""

_ORDINALS: Final = (101, 102)


class TimingLane:
    """The follower of one lane.

    State: all that `dump` gives; the table of profiles is read again at each start. Bounded by
    `people_max` people and `journeys_max` messages.
    Delivery: after a resume the same blocks lead to the same decisions, lessons and models, since
    time is what the blocks say, and what other lanes published came as blocks, too.
    """

    def __init__(
        self,
        rules: LaneRules,
        writer: Writer,
        kinds: dict[str, Kind],
        *,
        watch: Callable[[TimingLane, Tally], None] = lambda _lane, _tally: None,
    ) -> None:
        self._rules = rules
        self._writer = writer
        self._watch = watch
        self.number = -1
        self._clock_ms = 0
        self._heard: dict[tuple[str, int], int] = {}
        self._published = 0
        self._published_ms = 0
        self._judged_ms = 0
        self._news = False
        self.people = PeopleTable()
        self.plans = Plans(rules.people_max)
        self.feedback = Feedback(rules.feedback)
        self._waiting = Kept(Waiting(self.plans, self.feedback))
        self.trial = Trial(rules.plan, subjects_max=rules.people_max, floor=rules.floor)
        self.calibration = Calibration()
        self.progressive = Calibration()
        self.shards = Shards(-1)
        self.clusters = LaneClusters(seed=rules.seed)
        self.shelves = Shelves(kinds)
        self.learners = self.shelves.learners
        self._desk = Desk(
            rules,
            people=self.people,
            plans=self.plans,
            feedback=self.feedback,
            trial=self.trial,
        )
        self._ears = Ears(rules, people=self.people, plans=self.plans, feedback=self.feedback)

    def keep_in(self, journals: OpenJournal | None) -> None:
        """Keep in journals what grows; to be said before `load` and the first block."""
        self.shelves.keep_in(journals)
        self._waiting.keep_in(journals)

    def follow(self, block: AcceptedBlock) -> Followed:
        """Take a block, and give the decisions and all else that follows from it."""
        self._begin(block.lane)
        if not self._waiting.is_kept:
            self._waiting.keep_as(f"timing-{block.lane:03d}")
        if block.topic == PROFILE_TOPIC:
            self._meet(block)
        elif block.topic in (MODEL_TOPIC, ERASURE_TOPIC):
            self._hear(block)
        elif block.ids:
            return self._take(block)
        return Followed([], [], [])

    def _begin(self, lane: int) -> None:
        if self.learners:
            return
        rules = self._rules
        self.number = lane
        self.shards = Shards(lane)
        self.shelves.make(seed=rules.seed, lane=lane, people_max=rules.people_max)

    def _meet(self, block: AcceptedBlock) -> None:
        """Take profiles; what a model learned of one before a restart is not learned again."""
        places = [
            *((block.partitions[n], offset, n) for n, offset in enumerate(block.offsets)),
            *((*at, -1 - n) for n, at in enumerate(block.gone_at)),
        ]
        users: list[str] = []
        slots: list[int] = []
        for partition, offset, n in sorted(places):
            again = self._is_again(PROFILE_TOPIC, partition, offset)
            if n < 0:
                subject = block.gone[-1 - n]
                self.people.forget(subject)
                if not again:
                    self._forget(subject)
                continue
            hours = self.people.hold(block.bodies[n])
            trains = block.labels[n].decision.train is not Training.DENY
            if hours and trains and not again:
                users += [block.bodies[n].subject] * len(hours)
                slots += hours
        if users:
            for learner in self.learners.values():
                learner.state_preference(users, np.array(slots, np.int64))

    def _is_again(self, topic: str, partition: int, offset: int) -> bool:
        again = offset < self._heard.get((topic, partition), 0)
        if not again:
            self._heard[topic, partition] = offset + 1
        return again

    def _hear(self, block: AcceptedBlock) -> None:
        """Take what other lanes published, and who is to be forgotten."""
        for notice in block.notices:
            if self._is_again(block.topic, notice.partition, notice.offset):
                continue
            if block.topic == ERASURE_TOPIC:
                self._forget(notice.key.decode("utf-8", "replace"))
                continue
            fresh = self._published == 0
            shard = self.shards.hear(notice.key, notice.value, fresh=fresh)
            for name, dumped in (shard.populations if shard else {}).items():
                if name in self.learners:
                    take_in(self.learners[name], dumped)

    def _forget(self, subject: str) -> None:
        self.plans.forget(subject)
        self.feedback.forget(subject)
        self.trial.forget(subject)
        for learner in self.learners.values():
            learner.forget(subject)
        self._news = True  # what was told of groups is to lose the person soon

    def _take(self, block: AcceptedBlock) -> Followed:
        tally = Tally(Counter(), Counter())
        self._clock_ms = max(self._clock_ms, *block.times_ms)
        draws = self._desk.decide(block, self.learners, tally)
        prompt = [self._writer.decision(draw, block) for draw in draws]
        rows: list[Rows] = []
        if draws:
            rows.append(decision_rows(draws, block, policy=self._rules.policy))
        self._ears.hear(block, self.learners, tally)
        self.feedback.expire(self._clock_ms)
        lessons = self.feedback.take()
        self._learn(lessons, tally)
        outcomes = outcome_rows(lessons)
        if outcomes is not None:
            rows.append(outcomes)
        records, results = self._publish(block)
        self._watch(self, tally)
        return Followed(records, prompt, rows + results)

    def _learn(self, lessons: Sequence[Lesson], tally: Tally) -> None:
        if not lessons:
            return
        self._news = True
        new = [lesson for lesson in lessons if not lesson.corrects]
        late = [lesson for lesson in lessons if lesson.corrects]
        self._judge_model(new, tally)
        for learner in self.learners.values():
            if new:
                responded = np.array([lesson.responded for lesson in new], np.bool_)
                learner.learn(*_who_and_when(new), responded)
            if late:
                learner.correct(*_who_and_when(late))
        self.trial.add(lessons)
        for lesson in lessons:
            kind = "corrected" if lesson.corrects else "positive"
            tally.outcomes[kind if lesson.responded else "negative"] += 1

    def _judge_model(self, new: Sequence[Lesson], tally: Tally) -> None:
        """Compare outcomes with what was expected at their decisions, before they are learned.

        Where that does not come true any more, the models forget a part of the past.
        """
        self._judge_progress(new[:PROGRESSIVE_MAX])
        decided = [lesson for lesson in new if lesson.send.slot != NO_SLOT]
        if not decided:
            return
        expected = np.array([lesson.send.expected for lesson in decided])
        responded = np.array([lesson.responded for lesson in decided], np.bool_)
        tally.alarmed = self.calibration.judge(expected, responded)
        if tally.alarmed:
            for learner in self.learners.values():
                if isinstance(learner, Fading):
                    learner.fade(KEPT_AFTER_ALARM)

    def _judge_progress(self, new: Sequence[Lesson]) -> None:
        """Compare outcomes with what the usual model expects of them now, in their real hours.

        What was expected at the decision is older by the wait for the outcome: the one tells how
        good the model is, the other how good it was for those it decided.
        """
        if not new:
            return
        users, slots = _who_and_when(new)
        expected = self.learners[self._rules.model].predict(users)[np.arange(len(users)), slots]
        responded = np.array([lesson.responded for lesson in new], np.bool_)
        self.progressive.judge(expected, responded)

    def _publish(self, block: AcceptedBlock) -> tuple[list[OutRecord], list[Rows]]:
        """Publish this lane's sums and the verdict on all, each at its own pace in event time."""
        records: list[OutRecord] = []
        rows: list[Rows] = []
        if self._news and self._clock_ms - self._published_ms >= self._rules.publish_ms:
            self._published += 1
            self._published_ms, self._news = self._clock_ms, False
            rows += self._look_at_clusters()
            self.shards.drop_own()
            origin = last_origin(block, _ORDINALS[0])
            kind = b"application/msgpack"
            key = f"{self.number:03d}".encode()
            records.append(note(MODEL_TOPIC, key, self._shard(), origin=origin, kind=kind))
        if self._clock_ms - self._judged_ms >= self._rules.results_ms:
            self._judged_ms = self._clock_ms
            result = self.trial.judge(
                self.shards.evidence(), at_ms=self._clock_ms, looks=self.shards.looks()
            )
            # One voice for all lanes, so that what it tells is one line over time.
            speaks = self.number == min([self.number, *self.shards.lanes])
            if result is not None and speaks and result.arms.any():
                origin = last_origin(block, _ORDINALS[1])
                name = result.experiment.encode()
                told = note(
                    RESULTS_TOPIC, name, result.to_body(), origin=origin, kind=b"application/json"
                )
                records.append(told)
                rows += [self.trial.experiment.to_rows(), result.to_rows()]
        return records, rows

    def _look_at_clusters(self) -> list[Rows]:
        """Let clusters learn of those who have grown, and tell what they are then."""
        rules = self._rules
        found = (self.learners[name] for name in sorted(self.learners))
        counting = next((one for one in found if isinstance(one, Counting)), None)
        if counting is None:
            return []
        self.clusters.look(counting.people)
        groups = self.clusters.groups(counting.people)
        if groups is None:
            return []
        told = cluster_rows(
            groups,
            lane=self.number,
            at_ms=self._clock_ms,
            learned=self.clusters.version,
            people_min=rules.people_min,
            kept_s=rules.told_s,
        )
        return [told]

    def _shard(self) -> bytes:
        populations = {
            name: learner.population().dump()
            for name, learner in self.learners.items()
            if isinstance(learner, Pooling)
        }
        evidence = self.trial.evidence.dump()
        shard = Shard(
            SHARD_VERSION,
            self.number,
            self._published,
            self.digest(),
            evidence,
            populations,
            msgspec.structs.astuple(self.trial.rhythms.looks),
        )
        return msgspec.msgpack.encode(shard)

    def digest(self) -> str:
        """A digest of what models know of all people together, and of clusters.

        It costs the same however many people there are; a difference in what is known of one
        person shows once a sweep has come by.
        """
        whole = hashlib.blake2b(digest_size=16)
        for name in sorted(self.learners):
            learner = self.learners[name]
            if isinstance(learner, Pooling):
                whole.update(learner.dump_standing())
            else:
                whole.update(learner.dump())
        whole.update(msgspec.msgpack.encode(self.clusters.dump()))
        return whole.hexdigest()

    def state_hash(self) -> str:
        """A digest of all models and clusters; equal after the same blocks, resumed or not."""
        whole = hashlib.blake2b(digest_size=16)
        for name in sorted(self.learners):
            whole.update(self.learners[name].dump())
        whole.update(msgspec.msgpack.encode(self.clusters.dump()))
        return whole.hexdigest()

    def dump(self) -> bytes:
        """The state as bytes with a version number; a copy, whatever follows."""
        return msgspec.msgpack.encode(
            {
                "version": STATE_VERSION,
                "lane": self.number,
                "clock_ms": self._clock_ms,
                "heard": [[*place, offset] for place, offset in self._heard.items()],
                "published": [self._published, self._published_ms, self._judged_ms, self._news],
                "waiting": self._waiting.dump(),
                "trial": self.trial.dump(),
                "calibration": pickle.dumps(self.calibration),
                "progressive": pickle.dumps(self.progressive),
                "shards": self.shards.dump(),
                "clusters": self.clusters.dump(),
                "learners": self.shelves.dump(),
            }
        )

    def load(self, dumped: bytes) -> None:
        """Take back what `dump` gave; a model that settings name now and did not then is new.

        Errors: PermanentError for a version, of it or of a model, that this release does not know.
        """
        state = read_state(dumped)
        if state["lane"] < 0:
            return
        self._begin(state["lane"])
        self._clock_ms = state["clock_ms"]
        self._heard = {(topic, number): offset for topic, number, offset in state["heard"]}
        self._published, self._published_ms, self._judged_ms, self._news = state["published"]
        self._waiting.load(state["waiting"])
        self.trial.load(state["trial"])
        self.calibration = pickle.loads(state["calibration"])  # noqa: S301 - from our own store
        if state["progressive"] is not None:
            self.progressive = pickle.loads(state["progressive"])  # noqa: S301 - the same
        self.shards.load(state["shards"])
        if state["clusters"] is not None:
            try:
                self.clusters.load(state["clusters"])
            except UnreadableStateError as err:
                raise unreadable(f"clusters: {err}") from None
        self.shelves.load(state["learners"], lane=self.number)


def _who_and_when(lessons: Sequence[Lesson]) -> tuple[list[str], Any]:
    """People, and the slots in which their messages were really sent."""
    slots = np.array([lesson.send.sent_slot for lesson in lessons], np.int64)
    return [lesson.send.subject for lesson in lessons], slots
