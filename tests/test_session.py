"""A machine on a scripted engine: what is asked of the engine, and what becomes of its answers."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from scripted import Script

import v86lab as lab
from v86lab import abi, bundle, machine, session
from v86lab.errors import EngineError, GuestError, GuestTimeout, ImageError, StoreFull
from v86lab.hub import Hub
from v86lab.image import Disk, Image
from v86lab.protocol import (
    Advance,
    Boot,
    Cancel,
    Capture,
    Expect,
    Failure,
    ReadRecording,
    ReadScreen,
    Replay,
    Reply,
    Spawn,
    Status,
)
from v86lab.store import Store

MIB = 1 << 20


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> Script:
    script = Script()
    monkeypatch.setattr(session, "NodeEngine", script.engine)
    monkeypatch.delenv("V86LAB_ENGINE", raising=False)
    return script


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    hub = Hub(Store(tmp_path / "store", shared=[]))
    monkeypatch.setattr(machine, "shared_hub", lambda: hub)
    yield hub
    hub.close()


@pytest.fixture
def image(hub: Hub) -> Image:
    """One that is resumed from a start state."""
    bios, vga = hub.store.put(b"bios"), hub.store.put(b"vga")
    return Image(
        name="test", memory=64 * MIB, video_memory=8 * MIB, bios=bios, vga_bios=vga, consoles=2, agent=True, resume=True
    )


@pytest.fixture
def make(script: Script, image: Image) -> Iterator[Callable[..., lab.Machine]]:
    made = []

    def make(what: Any = image, **options: Any) -> lab.Machine:
        made.append(lab.Machine(what, **options))
        return made[-1]

    yield make
    for one in made:
        one.close()
    assert all(engine.closed for engine in script.engines)


Make = Callable[..., lab.Machine]


def boots(script: Script) -> list[tuple[str | None, int | None, bool]]:
    return [(boot.state, boot.seed, boot.fresh) for boot in script.of(Boot)]


# ---- starting ----


@pytest.mark.parametrize("seed", [7, None, 0])
def test_a_start_state_is_made_by_a_seeded_boot_and_given_to_the_machine_afresh(
    make: Make, script: Script, hub: Hub, seed: int | None
) -> None:
    vm = make(seed=seed)
    vm.start()
    start = hub.store.put(b"state of seed 0")
    assert boots(script) == [(None, 0, False), (start, seed, True)]
    assert script.of(Capture) == [Capture(id=0, start=True)]
    assert script.of(Spawn)[0].argv == ["/bin/sh", "-c", "sync; echo 3 > /proc/sys/vm/drop_caches"]
    make(seed=8).start()
    assert boots(script)[2:] == [(start, 8, True)]
    assert (vm.seed, vm.status) == (seed, "running" if seed is None else "paused")


def test_the_name_of_a_start_state_changes_with_the_image_and_the_abi_and_not_with_our_sources(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = make()._session._start_name()
    assert make(seed=3)._session._start_name() == name
    for options in ({"epoch": 0}, {"mips": 50}, {"jit": False}, {"memory": "128 MiB"}):
        assert make(**options)._session._start_name() != name
    made = bundle.contents()
    monkeypatch.setattr(bundle, "contents", lambda: {**made, "sources": "others"})
    assert make()._session._start_name() == name
    monkeypatch.setattr(session, "ABI", abi.ABI + 1)
    assert make()._session._start_name() != name


def full(*_: object) -> str:
    raise StoreFull("no room")


def test_a_machine_whose_start_state_cannot_be_kept_boots_or_refuses_to_be_another_than_its_seed_says(
    make: Make, script: Script, hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hub.store, "put", full)
    vm = make()
    vm.start()
    assert boots(script) == [(None, 0, False), (None, None, False)]
    assert "its start state could not be kept: no room" in vm.engine.why
    with pytest.raises(StoreFull):
        make(seed=7).start()


def test_a_start_state_that_cannot_be_pinned_is_used_all_the_same(
    make: Make, script: Script, hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hub.store, "pin", full)
    make(seed=7).start()
    assert boots(script) == [(None, 0, False), (hub.store.put(b"state of seed 0"), 7, True)]


def test_an_image_that_boots_each_time_boots_with_the_seed(make: Make, script: Script, image: Image) -> None:
    plain = Image.from_json(image.to_json() | {"resume": False})
    make(plain, seed=7).start()
    assert boots(script) == [(None, 7, False)]


def test_a_snapshot_goes_on_with_its_own_seed_unless_another_is_given(make: Make, script: Script) -> None:
    snap = make(seed=7).snapshot()
    assert snap.seed == 7
    for options, seed in (({}, 7), ({"seed": 0}, 0)):
        vm = make(snap, **options)
        vm.start()
        assert (vm.seed, boots(script)[-1]) == (seed, (snap.state, seed, False))
    wall = make().snapshot()
    assert (wall.seed, make(wall).seed, make(wall, seed=5).seed) == (None, None, 5)


def test_restore_and_reset_keep_the_machines_seed(make: Make, script: Script) -> None:
    vm = make(seed=7)
    snap = vm.snapshot()
    vm.restore(snap)
    assert boots(script)[-1] == (snap.state, 7, False)
    vm._session._ended(EngineError("the engine died"))
    assert vm.status == "faulted"
    vm.reset()
    start = boots(script)[1][0]
    assert boots(script)[-1] == (start, 7, True)
    vm._session._ended(EngineError("the engine died"))
    vm.restore(snap)
    assert boots(script)[-1] == (snap.state, 7, False)


def test_the_views_are_told_the_seed(make: Make) -> None:
    assert (make(seed=7)._session._standing().seed, make()._session._standing().seed) == (7, None)


# ---- what a machine is made with ----


def test_the_clock_and_the_jit_may_be_given_instead_of_the_images(make: Make, image: Image) -> None:
    vm = make(epoch=0, mips=50, jit=False)
    assert (vm.image.epoch, vm.image.mips, vm.image.jit) == (0, 50, False)
    assert make().image == image
    with pytest.raises(ImageError, match="mips"):
        make(mips=0)


@pytest.mark.parametrize("option", [{"epoch": 0}, {"mips": 100}, {"jit": True}, {"memory": "64 MiB"}])
def test_a_snapshot_has_the_hardware_it_was_taken_of(make: Make, option: dict[str, Any]) -> None:
    with pytest.raises(ImageError, match=f"a snapshot's {next(iter(option))} cannot be changed"):
        make(make(seed=7).snapshot(), **option)


def test_a_bad_seed_is_refused_before_anything_is_looked_for() -> None:
    with pytest.raises(ImageError, match="this seed cannot be used"):
        lab.Machine("no such image", seed=-1)


# ---- what a call may use up ----


def test_a_seeded_machine_is_driven_although_it_stands_still(make: Make) -> None:
    vm = make(seed=7)
    vm.start()
    assert (vm.status, vm.run("true").returncode) == ("paused", 0)
    wall = make()
    wall.start()
    wall._session._notice(Status(status="paused"))
    with pytest.raises(GuestError, match="the machine is paused"):
        wall.run("true")


def test_budgets_are_sent_with_a_command(make: Make, script: Script) -> None:
    make(seed=7).run("true", timeout=3e9, instructions=1000, wall_timeout=5)
    asked = script.of(Spawn)[-1]
    assert (asked.timeout, asked.instructions, asked.wall_timeout) == (3e9, 1000, 5.0)


@pytest.mark.parametrize(
    ("budget", "seeded", "words"),
    [
        ("timeout", True, "within 5 s of guest time"),
        ("timeout", False, "within 5 s"),
        ("instructions", True, "within 1000 instructions"),
        ("wall_timeout", False, "within 2 s of wall time"),
    ],
)
def test_a_timeout_names_what_was_used_up(make: Make, script: Script, budget: str, seeded: bool, words: str) -> None:
    vm = make(seed=7 if seeded else None)
    vm.start()
    given: dict[str, Any] = {"timeout": 5, "instructions": 1000, "wall_timeout": 2}
    script.answers[Spawn] = script.answers[Expect] = lambda request: script.late(request, budget)
    script.answers[ReadScreen] = lambda request: (
        screen(request, 1) if request.since is None else script.late(request, budget)
    )
    calls: list[tuple[Callable[[], object], str]] = [
        (lambda: vm.run("sleep 9", **given), "it came too late"),
        (lambda: vm.console.expect("login: ", **given), "the console did not show 'login: ' {}"),
        (
            lambda: vm.console.expect(re.compile(r"(.)\1$"), **given),
            "the console did not show re.compile('(.)\\\\1$') {}",
        ),
        (lambda: vm.screen.expect("C:", **given), "the screen did not show 'C:' {}"),
    ]
    for call, what in calls:
        with pytest.raises(GuestTimeout) as caught:
            call()
        assert caught.value.what == what.format(words)
        assert caught.value.budget == budget


def screen(request: ReadScreen, version: int) -> Reply:
    value = {"graphical": False, "columns": 2, "rows": 1, "cursor": None, "version": version}
    return Reply(id=request.id, value=value, payload=b"hi")


def test_screen_expect_hands_on_what_is_left_in_guest_time(make: Make, script: Script) -> None:
    def changed(request: ReadScreen) -> Reply:
        if request.since is not None:
            script.spend(1.5, 100)
        return screen(request, (request.since or 0) + 1)

    vm = make(seed=7)
    vm.start()
    script.answers[ReadScreen] = lambda request: (
        script.late(request, "timeout") if request.timeout == 0 else changed(request)
    )
    with pytest.raises(GuestTimeout, match="within 4 s of guest time"):
        vm.screen.expect("C:", timeout=4, instructions=1000)
    asked = [(one.since, one.timeout, one.instructions) for one in script.of(ReadScreen)]
    assert asked == [(None, None, None), (1, 4.0, 1000), (2, 2.5, 900), (3, 1.0, 800), (4, 0.0, 700)]


def test_a_pattern_that_python_matches_hands_on_what_is_left_in_guest_time(make: Make, script: Script) -> None:
    def shown(request: Expect) -> Reply:
        script.spend(1.0, 100)
        text = b"abcdd"[: len(script.of(Expect)) + 1]
        return Reply(id=request.id, value={"received": len(text), "dropped": 0}, payload=text)

    vm = make(seed=7)
    script.answers[Expect] = shown
    assert vm.console.expect(re.compile(r"(.)\1$"), timeout=10, instructions=1000).text == "dd"
    asked = [(one.seen, one.timeout, one.instructions) for one in script.of(Expect)]
    assert asked == [(0, 10.0, 1000), (2, 9.0, 900), (3, 8.0, 800), (4, 7.0, 700)]


def test_guest_time_may_take_any_time_of_the_hosts(make: Make, script: Script, monkeypatch: pytest.MonkeyPatch) -> None:
    machines = {seed: make(seed=seed) for seed in (7, None)}
    for vm in machines.values():
        vm.start()
    monkeypatch.setattr(session, "_ANSWER_PATIENCE", 0.0)
    script.delay = {Spawn: 1.0, Advance: 1.0}
    assert machines[7].run("true", timeout=0.1).returncode == 0
    machines[7].advance(seconds=0.1)
    with pytest.raises(EngineError, match="the engine does not answer"):
        machines[None].run("true", timeout=0.1)
    with pytest.raises(EngineError, match="the engine does not answer"):
        machines[7].run("true", wall_timeout=0.1)


@pytest.mark.parametrize("call", ["run", "console.expect", "screen.expect", "wait", "advance"])
@pytest.mark.parametrize(
    "budget", [{"timeout": -1}, {"timeout": float("nan")}, {"instructions": 0}, {"wall_timeout": 0}, {"seconds": 0}]
)
def test_a_budget_of_no_use_is_refused_before_the_engine_is_asked(
    make: Make, script: Script, call: str, budget: dict[str, Any]
) -> None:
    vm = make(seed=7)
    if call == "advance" and "timeout" in budget:
        budget = {"seconds": budget["timeout"]}
    elif "seconds" in budget and call != "advance":
        budget = {"instructions": -1}
    found: Any = vm
    for name in call.split("."):
        found = getattr(found, name)
    arguments = [] if call in ("wait", "advance") else ["x"]
    with pytest.raises(ImageError, match="cannot be used"):
        found(*arguments, **budget)
    assert script.asked == []


# ---- running on ----


def test_advance_asks_for_seconds_or_instructions(make: Make, script: Script) -> None:
    vm = make(seed=7)
    vm.advance(2)
    vm.advance(instructions=1_000_000, wall_timeout=60)
    assert script.of(Advance) == [
        Advance(id=0, seconds=2.0),
        Advance(id=0, instructions=1_000_000, wall_timeout=60.0),
    ]
    assert (vm.clock, vm.instructions) == (2.0, 1_000_000)
    with pytest.raises(ImageError, match="how far is the machine to run") as caught:
        vm.advance()
    assert caught.value.hint == "vm.wait() lets it run until it powers off"
    script.answers[Advance] = lambda request: script.late(request, "wall_timeout")
    with pytest.raises(GuestTimeout, match="the machine did not come so far within 1 s of wall time"):
        vm.advance(seconds=1e9, wall_timeout=1)


def test_what_needs_a_seed_says_so(make: Make, script: Script) -> None:
    vm = make()
    for call in (lambda: vm.advance(seconds=1), lambda: vm.recording):
        with pytest.raises(ImageError, match="needs a machine with a seed") as caught:
            call()
        assert caught.value.hint == "give it a seed: lab.Machine(seed=...)"
    assert script.asked == []


def ending(script: Script, status: str) -> Callable[[Advance], list[Any]]:
    return lambda request: [Status(status=status), script.reply(request)]


def test_wait_drives_a_seeded_machine_to_its_end(make: Make, script: Script) -> None:
    vm = make(seed=7)
    script.answers[Advance] = ending(script, "off")
    assert vm.wait(timeout=60, wall_timeout=600) == "off"
    assert script.of(Advance) == [Advance(id=0, seconds=60.0, wall_timeout=600.0)]
    assert vm.wait() == "off"
    assert len(script.of(Advance)) == 1


@pytest.mark.parametrize(
    ("budgets", "words"),
    [
        ({"timeout": 60}, "within 60 s of guest time"),
        ({"timeout": 0}, "within 0 s of guest time"),
        ({"instructions": 1000}, "within 1000 instructions"),
        ({"timeout": 60, "instructions": 10}, "within 10 instructions"),
    ],
)
def test_a_seeded_machine_that_does_not_stop_is_a_timeout(
    make: Make, script: Script, budgets: dict[str, Any], words: str
) -> None:
    def run_on(request: Advance) -> Reply:
        script.spend(1.0 if request.instructions else request.seconds or 0.0, request.instructions or 0)
        return script.reply(request)

    script.answers[Advance] = run_on
    with pytest.raises(GuestTimeout, match=f"the machine did not stop {words}: saw status 'paused'"):
        make(seed=7).wait(**budgets)


def test_wait_on_wall_time_counts_instructions_too(make: Make, script: Script, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("v86lab.advance._LOOK_EVERY", 0.01)
    vm = make()
    plain = script.statistics
    script.statistics = lambda: (script.spend(0, 100), plain())[1]  # type: ignore[method-assign, func-returns-value]
    with pytest.raises(GuestTimeout, match="did not stop within 1000 instructions"):
        vm.wait(instructions=1000)
    with pytest.raises(GuestTimeout, match=r"did not stop within 0\.05 s of wall time"):
        vm.wait(timeout=5, wall_timeout=0.05)
    with pytest.raises(GuestTimeout, match="did not stop within 0 s: saw status 'running'"):
        vm.wait(timeout=0)
    vm._session._notice(Status(status="off"))
    assert vm.wait(timeout=0) == "off"


def test_an_interrupted_wait_is_cancelled_in_the_engine(
    make: Make, script: Script, monkeypatch: pytest.MonkeyPatch
) -> None:
    vm = make(seed=7)
    vm.start()
    script.delay = {Advance: 30.0}
    engine = script.engines[-1]

    def interrupt() -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(engine, "poke", interrupt)
    with pytest.raises(KeyboardInterrupt):
        vm.wait()
    assert len(script.of(Cancel)) == 1


def test_the_state_hash_is_the_engines(make: Make) -> None:
    assert make(seed=7).state_hash() == "0" * 64


def test_two_machines_are_compared_by_what_their_engines_say_and_byte_by_byte(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = make(seed=7)
    one.start()
    assert not one.diff(one)
    other_script = Script()
    monkeypatch.setattr(session, "NodeEngine", other_script.engine)
    with make(seed=7) as other:
        other.advance(instructions=255)
        other_script.memory[0x1003] = 9
        found = one.diff(other)
    assert repr(found) == (
        "2 sections differ:\n  cpu: eax is 00000000 here, 000000ff there\n  ram: 0x00001003 is 00 here, 09 there"
    )
    with pytest.raises(ImageError, match="expected another Machine, saw str"):
        one.diff("other")  # type: ignore[arg-type]


# ---- recordings ----

EVENTS: list[list[Any]] = [
    [3, 1000, "console", "AQI="],
    [5, 1500, "medium", "fda", {"digest": "3" * 64, "size": 1474560}],
]


def recorded(script: Script, **changes: Any) -> Callable[[ReadRecording], Reply]:
    boot = script.of(Boot)[-1]
    plain: dict[str, Any] = {"seed": boot.seed, "events": EVENTS, "steps": 9, "instructions": 2000, "seconds": 0.5}
    plain |= {"image": boot.image, "state": boot.state, "fresh": boot.fresh} | changes
    return lambda request: Reply(id=request.id, payload=json.dumps(plain).encode())


def test_a_recording_is_what_the_engine_has_kept(make: Make, script: Script, image: Image) -> None:
    vm = make(seed=7)
    vm.start()
    script.answers[ReadRecording] = recorded(script)
    start = boots(script)[-1][0]
    assert vm.recording == lab.Recording(7, image, start, True, EVENTS, 9, 2000, 0.5, abi.ABI)


@pytest.mark.parametrize(
    "changes", [{"seed": None}, {"image": None}, {"events": {}}, {"state": "x"}, {"steps": -1}, {"seconds": "1"}]
)
def test_a_recording_that_makes_no_sense_is_the_engines_fault(
    make: Make, script: Script, changes: dict[str, Any]
) -> None:
    vm = make(seed=7)
    vm.start()
    script.answers[ReadRecording] = recorded(script, **changes)
    with pytest.raises(EngineError, match="the engine's recording cannot be read"):
        vm.recording  # noqa: B018


def test_replay_boots_what_was_recorded_and_hands_the_engine_the_events(
    make: Make, script: Script, hub: Hub, image: Image
) -> None:
    vm = make(seed=7)
    vm.start()
    floppy = hub.store.put(bytes(1474560))
    events = [EVENTS[0], [*EVENTS[1][:4], {"digest": floppy, "size": 1474560}]]
    script.answers[ReadRecording] = recorded(script, events=events)
    log, before = vm.recording, len(script.of(Boot))
    with lab.replay(log, image) as again:
        assert (again.seed, again.image, again.status) == (7, image, "paused")
        assert boots(script)[before:] == [(log.state, 7, True)]
        assert script.of(Replay) == [
            Replay(id=0, steps=9, instructions=2000, payload=json.dumps(events, separators=(",", ":")).encode())
        ]


def test_a_start_state_that_is_gone_is_made_anew_for_a_replay(make: Make, script: Script, hub: Hub) -> None:
    vm = make(seed=7)
    vm.start()
    script.answers[ReadRecording] = recorded(script, events=[])
    log = vm.recording
    assert log.state is not None
    hub.store.path(log.state).unlink()
    with lab.replay(log):
        assert boots(script)[2:] == [(None, 0, False), (log.state, 7, True)]
    hub.store.path(log.state).unlink()
    script.answers[Capture] = lambda request: Reply(
        id=request.id, value={"instructions": 0, "media": {}}, payload=b"another state"
    )
    with pytest.raises(lab.errors.StoreError):
        lab.replay(log)


def test_a_replay_that_goes_another_way_is_an_image_error_and_its_machine_is_closed(make: Make, script: Script) -> None:
    vm = make(seed=7)
    vm.start()
    script.answers[ReadRecording] = recorded(script, events=[])
    script.answers[Replay] = lambda request: Failure(id=request.id, code="image", message="it went another way")
    with pytest.raises(ImageError, match="it went another way"):
        lab.replay(vm.recording)
    assert [engine.closed for engine in script.engines] == [False, True]


def test_a_replay_of_a_medium_that_is_gone_is_refused_before_it_starts(make: Make, script: Script) -> None:
    vm = make(seed=7)
    vm.start()
    gone = [[5, 1500, "medium", "fda", {"digest": "1" * 64, "size": 1474560}]]
    script.answers[ReadRecording] = recorded(script, events=gone)
    with pytest.raises(lab.errors.UnknownDigest):
        lab.replay(vm.recording)
    assert len(script.engines) == 1


def test_replay_refuses_another_image_by_what_differs(make: Make, script: Script, image: Image) -> None:
    vm = make(seed=7)
    vm.start()
    script.answers[ReadRecording] = recorded(script, events=[])
    other = Image.from_json(image.to_json() | {"memory": 128 * MIB, "fda": {"digest": "2" * 64, "size": 1474560}})
    assert isinstance(other.fda, Disk)
    with pytest.raises(ImageError, match="of another image: expected memory 67108864, fda None, saw memory 134217728"):
        lab.replay(vm.recording, other)
    with pytest.raises(ImageError, match=r"lab\.Recording\.load\(path\)"):
        lab.replay("run.json")  # type: ignore[arg-type]
