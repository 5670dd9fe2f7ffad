"""Ollama as its users found it: stuck in every way they reported, and busy in every way that only looks so."""

import random
from dataclasses import dataclass, field

import pytest

from ccproxy_supervisor.core.wedge import IDLE, Flow, Loaded, Runner, View, Wedge

PATIENCE = 1800.0
TICK = 5.0


@dataclass
class Ollama:
    """One that can be told to misbehave; looked at every five seconds as the daemon does.

    *silent*: a question gets no answer (15 s); *failing*: it gets this error, at once. *cores* and *growth*: what its runners
    use of the processor, and the bytes a second that they grow by.
    """

    loaded: tuple = (Loaded("llama", 10_000.0),)
    silent: bool = False
    failing: str = ""
    cores: float = 0.0
    growth: float = 0.0
    visible: bool = True
    in_flight: int = 0
    waiting_since: float | None = None
    whole: int = 0
    halves: int = 0
    counted: bool = True
    runners: tuple = ((7, 1.0),)
    now: float = 1000.0
    cpu: float = 0.0
    memory: float = 1e9
    asked: list = field(default_factory=list)
    wedge: Wedge = field(default_factory=lambda: Wedge(PATIENCE))

    def view(self):
        waiting = 0.0 if self.waiting_since is None else self.now - self.waiting_since
        flow = Flow(self.in_flight, waiting, self.whole, self.halves) if self.counted else None
        runners = tuple(Runner(pid, born, self.cpu, int(self.memory)) for pid, born in self.runners)
        return View(self.now, self.now, flow, self.loaded, runners if self.visible else None)

    def pass_time(self, seconds):
        self.now += seconds
        self.cpu += seconds * self.cores
        self.memory += seconds * self.growth

    def look(self):
        for name in self.wedge.look(self.view()):
            self.asked.append(self.now)
            if self.silent:
                self.pass_time(15.0)
                self.wedge.answered(name, self.now, ok=None)
            else:
                self.wedge.answered(name, self.now, ok=not self.failing, detail=self.failing)

    def run(self, seconds):
        """Returns after how many seconds it was found to be stuck, None if it was not."""
        begun = self.now
        while self.now < begun + seconds:
            self.look()
            if self.wedge.stuck:
                return self.now - begun
            self.pass_time(TICK)
        return None


def hanging(**more):
    """Requests wait, and nothing moves any more."""
    return Ollama(in_flight=3, waiting_since=1000.0, **more)


def test_tags_answer_and_nothing_is_generated():
    ollama = hanging(silent=True)
    assert ollama.run(300) <= 60
    assert ollama.wedge.stuck == "llama answers nothing"


def test_a_runner_that_hangs_while_it_should_have_been_unloaded_is_found_without_any_traffic():
    """`Stopping...` for ever."""
    ollama = Ollama(loaded=(Loaded("llama", 969.0),), silent=True)
    assert ollama.run(300) <= 60


def test_a_runner_that_loads_nothing_and_does_nothing():
    ollama = hanging(loaded=())
    assert ollama.run(300) <= 80
    assert ollama.wedge.stuck == "its runner loads nothing and does nothing"


def test_a_runner_that_fails_again_and_again():
    ollama = hanging(failing="model runner has unexpectedly stopped")
    assert ollama.run(300) <= 60
    assert ollama.wedge.stuck == "llama fails: model runner has unexpectedly stopped"


def test_one_failure_is_no_verdict():
    ollama = hanging(failing="x")
    ollama.run(30)
    ollama.failing = ""
    assert ollama.run(300) is None


def test_a_runner_that_dies_whenever_litellm_asks_for_its_model():
    ollama = Ollama(loaded=(), runners=())
    ollama.wedge.checked(
        [("llama", "litellm.APIConnectionError: llama runner process has terminated: signal: killed", 1.0)], 1000.0
    )
    assert ollama.wedge.stuck.startswith("llama fails: litellm.APIConnectionError: llama runner process has terminated")
    ollama.failing = "llama runner process has terminated"
    ollama.run(120)
    assert len(ollama.asked) <= 2  # it is not made to load it over and over
    for _ in range(60):
        ollama.look()
        ollama.pass_time(TICK)
    assert 3 <= len(ollama.asked) <= 8
    ollama.failing = ""
    for _ in range(20):
        ollama.look()
        ollama.pass_time(TICK)
    assert ollama.wedge.stuck == ""


def test_the_same_report_is_no_news_the_second_time():
    ollama, report = Ollama(), [("llama", "runner terminated", 1.0)]
    ollama.wedge.checked(report, 1000.0)
    ollama.wedge.answered("llama", 1001.0, ok=True)
    ollama.wedge.checked(report, 1005.0)
    assert ollama.wedge.stuck == ""
    ollama.wedge.checked([("llama", "runner terminated", 2.0)], 1010.0)
    assert ollama.wedge.stuck
    ollama.wedge.checked([], 1015.0)
    assert ollama.wedge.stuck == ""


def test_without_traffic_a_check_that_met_silence_has_it_looked_at():
    ollama = Ollama(counted=False, silent=True)
    assert ollama.run(300) is None
    ollama.wedge.checked([("llama", "no complete answer in 60 s", 1.0)], ollama.now)
    assert ollama.run(300) <= 60


def test_a_check_that_failed_for_another_reason_is_not_ollamas_fault():
    ollama = Ollama(counted=False, silent=True)
    ollama.wedge.checked([("llama", "model 'llama' not found", 1.0)], ollama.now)
    assert ollama.run(300) is None
    assert ollama.asked == []


def test_answers_that_break_off_one_after_another():
    ollama = Ollama()
    ollama.look()
    for _ in range(3):
        ollama.halves += 1
        ollama.pass_time(TICK)
        ollama.wedge.look(ollama.view())
    assert ollama.wedge.stuck == "its last 3 answers broke off"
    assert ollama.wedge.look(ollama.view()) == ()
    ollama.whole += 1
    ollama.wedge.look(ollama.view())
    assert ollama.wedge.stuck == ""


def test_an_answer_that_breaks_off_between_whole_ones_is_none_of_it():
    ollama = Ollama()
    for _ in range(20):
        ollama.halves += 1
        ollama.whole += 1
        ollama.wedge.look(ollama.view())
        ollama.pass_time(TICK)
    assert ollama.wedge.stuck == ""


@pytest.mark.parametrize("more", [{"cores": 1.0}, {"visible": False}])
def test_what_computes_or_cannot_be_seen_is_given_its_time_and_then_found_too(more):
    ollama = hanging(silent=True, **more)
    assert PATIENCE <= ollama.run(PATIENCE + 300) <= PATIENCE + 60
    assert ollama.asked[0] >= 1000.0 + PATIENCE


def test_it_is_well_again_once_something_moves():
    ollama = hanging(silent=True)
    ollama.run(300)
    ollama.waiting_since = ollama.now - 1
    ollama.look()
    assert ollama.wedge.stuck == ""


def test_it_is_well_again_once_nothing_is_loaded_and_nobody_waits():
    ollama = hanging(silent=True)
    ollama.run(300)
    ollama.loaded, ollama.in_flight = (), 0
    ollama.look()
    assert ollama.wedge.stuck == ""


def test_while_stuck_and_unloaded_with_somebody_waiting_it_is_confirmed():
    ollama = hanging(silent=True)
    ollama.run(300)
    before, ollama.loaded = ollama.wedge.confirmed, ()
    ollama.pass_time(60)
    ollama.look()
    assert ollama.wedge.stuck
    assert ollama.wedge.confirmed > before


def test_the_runners_that_do_nothing_are_to_blame():
    idle, busy = Runner(1, 1.0, 5.0, 10), Runner(2, 1.0, 5.0, 10)
    wedge = Wedge(PATIENCE)
    wedge.look(View(0.0, 0.0, Flow(1, 30.0), (), (idle, busy)))
    later = Runner(2, 1.0, 9.0, 10)
    assert wedge.culprits([idle, later]) == (idle,)
    assert wedge.culprits([later]) == (later,)


# Busy in every way that only looks stuck.


def test_a_long_prefill_is_left_alone():
    ollama = hanging(cores=0.1, silent=True)
    assert ollama.run(1500) is None
    assert ollama.asked == []


def test_a_model_that_loads_slowly_is_left_alone():
    ollama = hanging(loaded=(), growth=20e6)
    assert ollama.run(90) is None
    ollama.loaded, ollama.growth, ollama.cores = (Loaded("llama", 10_000.0),), 0.0, 0.5
    assert ollama.run(300) is None
    assert ollama.asked == []


def test_requests_that_wait_for_somebody_else_cost_one_question():
    """A cloud's model is slow; Ollama, asked, answers at once."""
    ollama = hanging()
    assert ollama.run(290) is None
    assert len(ollama.asked) == 1


def test_a_model_past_its_time_after_the_machine_slept_answers_and_is_left_alone():
    """Its timer stood still while the clock on the wall did not."""
    ollama = Ollama(loaded=(Loaded("llama", 500.0),))
    assert ollama.run(290) is None
    assert len(ollama.asked) == 1


class Busy:
    """A day at work: agents with long prompts, a queue, models that load and go, a cloud beside it, sleep."""

    def __init__(self, seed, *, visible):
        self.random, self.visible = random.Random(seed), visible
        self.ollama = Ollama(loaded=(), runners=(), visible=visible)
        self.false = []

    def spend(self, seconds, **state):
        """Be like this for so long."""
        for name, value in state.items():
            setattr(self.ollama, name, value)
        self.ollama.silent = bool(state.get("busy_slot"))
        end = self.ollama.now + seconds
        while self.ollama.now < end:
            self.ollama.look()
            if self.ollama.wedge.stuck:
                self.false.append((self.ollama.now, self.ollama.wedge.stuck, state))
                self.ollama.wedge = Wedge(PATIENCE)
            self.ollama.pass_time(min(TICK, end - self.ollama.now) or TICK)

    def hours(self, count):
        end = self.ollama.now + count * 3600
        while self.ollama.now < end:
            self.random.choice(
                [self.load, self.prefill, self.prefill, self.generate, self.queue, self.cloud, self.rest, self.sleep]
            )()

    def load(self):
        """Up to 90 s, from a disk that keeps the processor idle for seconds on end."""
        pid = self.random.randrange(1000, 9999)
        self.spend(
            5,
            in_flight=1,
            waiting_since=self.ollama.now,
            runners=((pid, self.ollama.now),),
            loaded=(),
            cores=0.0,
            growth=0.0,
        )
        for _ in range(self.random.randrange(1, 9)):
            self.spend(10, cores=self.random.choice([0.0, 0.3]), growth=self.random.choice([2e6, 200e6]))
        self.spend(5, loaded=(Loaded("llama", self.ollama.now + 300),), growth=0.0, cores=0.4)

    def prefill(self):
        if self.ollama.loaded:
            cores = self.random.choice([0.05, 0.2, 6.0])
            self.spend(
                self.random.uniform(20, 1500), in_flight=1, waiting_since=self.ollama.now, cores=cores, busy_slot=True
            )
            self.generate()

    def generate(self):
        for _ in range(self.random.randrange(1, 20)):
            self.spend(10, in_flight=1, waiting_since=self.ollama.now, cores=0.1, busy_slot=True)
            self.ollama.whole += self.random.random() < 0.3
        self.spend(
            5,
            in_flight=0,
            waiting_since=None,
            cores=0.0,
            loaded=(Loaded("llama", self.ollama.now + 300),) if self.ollama.loaded else (),
        )

    def queue(self):
        """Forty agents; each answer takes a minute, and the others wait."""
        if self.ollama.loaded:
            for _ in range(self.random.randrange(1, 40)):
                self.spend(60, in_flight=40, waiting_since=self.ollama.now, cores=0.2, busy_slot=True)
                self.ollama.whole += 1

    def cloud(self):
        self.spend(self.random.uniform(20, 600), in_flight=2, waiting_since=self.ollama.now, cores=0.0)

    def rest(self):
        self.spend(self.random.uniform(60, 290), in_flight=0, waiting_since=None, cores=0.0)
        self.spend(20, loaded=(), runners=())

    def sleep(self):
        """The wall clock goes on; what was loaded is past its time and still there for a while."""
        if self.ollama.loaded:
            self.spend(
                250, in_flight=0, waiting_since=None, cores=0.0, loaded=(Loaded("llama", self.ollama.now - 3600),)
            )
            self.spend(10, loaded=(), runners=())


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("visible", [True, False])
def test_in_five_hundred_busy_hours_nothing_is_taken_for_stuck(seed, visible):
    """Ten times fifty hours; a runner that cannot be seen is never judged by what it does."""
    day = Busy(seed, visible=visible)
    day.hours(50)
    assert day.false == []


def test_the_busy_hours_can_tell_a_stuck_ollama():
    """The proof that they prove something: one that stops computing with its slot taken is found."""
    day = Busy(0, visible=True)
    day.spend(5, loaded=(Loaded("llama", 1e9),), runners=((7, 1.0),))
    day.spend(120, in_flight=1, waiting_since=day.ollama.now, cores=IDLE / 4, busy_slot=True)
    assert day.false
