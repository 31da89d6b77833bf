# SPDX-License-Identifier: GPL-2.0-or-later
"""Whatever a client asks pvhvd for, and with whatever arguments: the answer is a sentence, never a traceback.

The verbs are those the process has, and their arguments are read off them, so that a new one is asked for here as well.
"""

from __future__ import annotations

import asyncio
import inspect
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pytest

from pvhv.toolstack import daemon, requests, rpc, server, service
from pvhv.toolstack.config import DomainConfig
from pvhv.toolstack.errors import ToolstackError
from pvhv.toolstack.guest import prepare
from pvhv.toolstack.paths import Paths
from pvhv.toolstack.server import INTERNAL_ERROR_STATUS, Call, Session
from tests.toolstack.recipes import SPIN, Recipe

GOES_ON_S = 0.25  # what has not answered by then follows a domain, and is called off
NONSENSE: tuple[Any, ...] = (
    None, True, False, -1, 0, 1, 1 << 31, -(1 << 31), (1 << 63) - 1, -(1 << 63), (1 << 64) - 1, 0.5, -1e308,
    float("nan"), float("inf"), "", "x", "nobody", "\0", "a\nb", "\udcff\udc80", "9" * 5000, "x" * 60000,
    b"", b"\xff" * 5000,
    [], [None], ["x"], ["\0"], ["9" * 5000], [[]], {}, {"": None}, {"x": {"y": []}},
)  # fmt: skip
SENSIBLE: dict[str, Any] = {
    "domain": "it", "attached": 1, "session": 1, "connection": 1, "trace": 1, "data": b"x", "word": "poweroff",
    "key": "h", "keys": "h", "name": "it", "count": 1, "kib": 4096, "wait": False, "log": "none",
}  # fmt: skip


class Client(Session):
    """One that hears its answers where it stands."""

    def __init__(self, door: server.Server) -> None:
        super().__init__(door, None, None)  # type: ignore[arg-type]
        self.answers: dict[int, dict[str, Any]] = {}
        self.numbers = 0
        self._unpacker.greeted()

    async def send(self, message: rpc.Message) -> None:
        rpc.pack(message)
        if "item" not in message:
            self.answers[message["id"]] = message

    async def ask(self, verb: str, arguments: dict[str, Any]) -> dict[str, Any] | None:
        """The answer; None where there is none as yet."""
        self.numbers += 1
        number = self.numbers
        self._take(rpc.pack({"id": number, "call": verb, "args": arguments}))
        task = self.tasks[number]
        await asyncio.wait([task], timeout=GOES_ON_S)
        if not task.done():
            task.cancel()
            await asyncio.wait([task])
        return self.answers.pop(number, None)


class Process:
    """A pvhvd in this one, without its door. Its domain, `it`, takes no notice of anything."""

    def __init__(self, directory: Path) -> None:
        with open(directory / "lock", "wb") as lock:
            self.daemon = daemon.Daemon(Paths(directory), lock)
        self.handlers = self.daemon.server.handlers
        self.said: list[str] = []
        self.daemon.server.log = self.said.append
        self.daemon._stop = self.daemon.service.stop = lambda: None  # type: ignore[method-assign]
        kernel = directory / "kernel.elf"
        kernel.write_bytes(Recipe(code=SPIN).build())
        self.config = DomainConfig("it", kernel, memory=4, maxmem=4)
        self.thread = threading.Thread(target=self.daemon.hypervisor.run, daemon=True)
        self.thread.start()
        self.make()

    def do(self, function: Any) -> Any:
        future: Future[Any] = self.daemon.hypervisor.post(function)
        return future.result(20)

    def make(self) -> None:
        """Have its domain, and no other."""
        host = self.daemon.host
        self.daemon.service.stopping = False
        for guest in [*host.guests.values()]:
            if guest.name != "it" or not guest.stays:
                self.do(lambda guest=guest: host.destroy(guest)).result(20)
        if not host.guests:
            self.do(lambda: host.create(prepare(self.config)))

    def end(self) -> None:
        self.daemon.hypervisor.stop()
        self.thread.join()
        self.daemon.logs.stop()


@pytest.fixture
def process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Process]:
    monkeypatch.setattr(service, "ANSWER_WITHIN_S", 0.05)
    made = Process(tmp_path)
    yield made
    made.end()


def requests_of(verb: str, handler: Any, config: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Each argument as nonsense, the others as they should be; one too many; one too few."""
    names = [
        each.name
        for each in [*inspect.signature(handler).parameters.values()][1:]
        if each.kind is not each.VAR_KEYWORD
    ] or (["log", "timestamp", "directory"] if verb == "console_log" else [])
    sensible = {name: SENSIBLE[name] for name in names if name in SENSIBLE}
    if "config" in names:
        sensible["config"] = {**config, "name": "other"}
    yield sensible
    for name in names:
        yield {each: value for each, value in sensible.items() if each != name}
        for value in NONSENSE:
            yield {**sensible, name: value}
    for other in ("self", "call", "_call", "more", "", "\0", "x" * 5000):
        yield {**sensible, other: None}
    yield {}


def test_every_answer_is_a_sentence(process: Process) -> None:
    async def story() -> int:
        asked = 0
        client = Client(process.daemon.server)
        for verb, handler in process.handlers.items():
            for arguments in requests_of(verb, handler, process.config.to_wire()):
                answer = await client.ask(verb, arguments)
                asked += 1
                told = (verb, {name: str(value)[:60] for name, value in arguments.items()}, answer, process.said)
                assert not process.said, told
                error = (answer or {}).get("error")
                if error is not None:
                    assert error["status"] != INTERNAL_ERROR_STATUS and error["message"], told
                assert not process.daemon.hypervisor.bugs, told
                if process.daemon.service.stopping or verb == "create":
                    await asyncio.to_thread(process.make)
            await asyncio.to_thread(process.make)
        return asked

    assert asyncio.run(story()) > 20 * len(process.handlers)
    assert process.thread.is_alive()


def test_every_field_of_a_configuration_is_looked_at(process: Process) -> None:
    """Nobody need have read a domain file to send what one comes to."""

    async def story() -> None:
        client = Client(process.daemon.server)
        plain = {**process.config.to_wire(), "name": "other"}
        for key in plain:
            for value in NONSENSE:
                answer = await client.ask("create", {"config": {**plain, key: value}, "paused": True})
                error = (answer or {}).get("error")
                told = (key, str(value)[:60], answer, process.said)
                assert not process.said and not process.daemon.hypervisor.bugs, told
                if error is not None:
                    assert error["status"] != INTERNAL_ERROR_STATUS, told
                else:
                    await asyncio.to_thread(process.make)

    asyncio.run(story())


def test_what_a_command_looks_at_the_process_looks_at_too(process: Process) -> None:
    """Whoever asks need not be our command."""

    async def story() -> None:
        client = Client(process.daemon.server)
        for verb, arguments, why in (
            ("rename", {"name": ""}, "cannot be a domain's name: it is empty"),
            ("rename", {"name": "a\0b"}, "'a\\x00b' cannot be a domain's name: it has a NUL"),
            ("rename", {"name": "x" * 1025}, "it may have 1024 bytes at most"),
            ("shutdown", {"word": "explode"}, "can be asked to poweroff or to reboot, and not to explode"),
            ("sysrq", {"key": "hh"}, "'hh' is not a key of the magic SysRq"),
            ("sysrq", {"key": "\0"}, "is not a key of the magic SysRq"),
            ("mem_set", {"kib": -1}, "cannot have -1 KiB"),
            ("mem_max", {"kib": 1 << 60}, f"cannot have {1 << 60} KiB"),
            ("vcpu_set", {"count": -1}, "it can use 1 to 1 of them, not -1"),
        ):
            answer = await client.ask(verb, {"domain": "it", **arguments})
            assert answer is not None and why in answer["error"]["message"], (verb, answer)

    asyncio.run(story())


@pytest.mark.parametrize(
    ("key", "value", "why"),
    [
        ("memory", "much", "'memory' has to be a whole number"),
        ("memory", True, "'memory' has to be a whole number"),
        ("memory", 0, "'memory' must lie between 1 and"),
        ("vcpus", 33, "'vcpus' must lie between 1 and 32"),
        ("cpu_weight", 65536, "'cpu_weight' must lie between 1 and 65535"),
        ("time_offset", 1 << 31, "'rtc_timeoffset' must lie between"),
        ("type", "pvh", "'type' is one of pv, hvm"),
        ("on_crash", "wait", "'on_crash' is one of destroy, restart"),
        ("clock", "", "'clock' is one of wall, virtual"),
        ("name", "", "'name' is empty"),
        ("timeline", "x\0", "'timeline' has a NUL character"),
        ("kernel", "a\0b", "'kernel' is not a file name"),
        ("kernel", None, "'kernel' has to be text"),
        ("cmdline", "x" * 1024, "'cmdline' has 1023 bytes at most"),
        ("uuid", "mine", "'uuid' wants a UUID such as"),
        ("max_grant_frames", 65, "'max_grant_frames' must lie between 1 and 64"),
        ("max_grant_frames", "64", "'max_grant_frames' has to be a whole number or nothing"),
        ("given", [1], "'given' has to be a list, each text"),
        ("timeline", "ours", "'timeline' names a virtual clock"),
        ("wings", 2, "does not know wings"),
    ],
)
def test_what_no_domain_file_comes_to_is_refused(key: str, value: Any, why: str) -> None:
    plain = DomainConfig("x", Path("k")).to_wire()
    with pytest.raises(ToolstackError) as refused:
        DomainConfig.from_wire({**plain, key: value})
    assert why in refused.value.message


def test_a_machine_of_its_own_has_one_vcpu_also_by_message() -> None:
    plain = DomainConfig("x", Path("k"), type="hvm").to_wire()
    assert DomainConfig.from_wire(plain).type == "hvm"
    with pytest.raises(ToolstackError, match="has one vCPU"):
        DomainConfig.from_wire({**plain, "maxvcpus": 2})


class Handlers:
    """Some that are asked below."""

    async def plain(
        self, call: Call, domain: str, count: int = 0, words: Sequence[str] = (), until: float | None = None
    ) -> None:
        """One with all kinds of arguments."""

    async def open(self, call: Call, **changes: object) -> None:
        """One that takes what there is."""


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        ({}, "'it' needs its domain"),
        ({"domain": 7}, "'it': its 'domain' has to be text"),
        ({"domain": "x", "count": True}, "'it': its 'count' has to be a whole number"),
        ({"domain": "x", "count": 1.0}, "'it': its 'count' has to be a whole number"),
        ({"domain": "x", "words": "abc"}, "'it': its 'words' has to be a list, each text"),
        ({"domain": "x", "words": [b"abc"]}, "'it': its 'words' has to be a list, each text"),
        ({"domain": "x", "until": float("nan")}, "'it': its 'until' has to be a number or nothing"),
        ({"domain": "x", "call": 1}, "'it' takes no 'call'"),
        ({"domain": "x", "a\x1b[2J": 1}, "'it' takes no 'a\\x1b[2J'"),
    ],
)
def test_arguments_are_looked_at_in_one_place(arguments: dict[str, Any], why: str) -> None:
    with pytest.raises(ToolstackError) as refused:
        requests.check("it", Handlers().plain, arguments)
    assert refused.value.message == why


def test_what_fits_is_let_through() -> None:
    for arguments in (
        {"domain": ""}, {"domain": "x", "count": -1, "words": [], "until": 3}, {"domain": "x", "until": None},
    ):  # fmt: skip
        requests.check("it", Handlers().plain, arguments)
    requests.check("it", Handlers().open, {"any": 1, "thing": None})
    for name in ("self", "call"):
        with pytest.raises(ToolstackError, match=f"'it' takes no '{name}'"):
            requests.check("it", Handlers().open, {name: 1})
