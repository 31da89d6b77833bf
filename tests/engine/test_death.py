# SPDX-License-Identifier: GPL-2.0-or-later
"""An engine that cannot go on ends its run: whoever ran on it hears how, and the next guest runs on a new one."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from pvhv.machine import engine as uc
from pvhv.machine import pacer, seam
from pvhv.machine.cpustate import R15, RAX, RBX, RIP
from pvhv.machine.engine import EngineDied
from tests.machine.lab import CODE, DATA, KINDS, Lab

HOW = {
    signal.SIGSEGV: r"died \(SIGSEGV at libunicorn\.so\+0x[0-9a-f]+, accessing 0x8\)",
    signal.SIGFPE: r"died \(SIGFPE at libunicorn",
    signal.SIGILL: r"died \(SIGILL at libunicorn",
    signal.SIGBUS: r"died \(SIGBUS at ",
    signal.SIGABRT: r"died \(SIGABRT at ",
    0: r"gave up \(asked to, at libunicorn",
}


def plant(lab: Lab, at: int, how: int) -> int:
    """Have the engine die before the instruction at `at`; the hook's number."""
    hook = lab.pcpu._engine.add_hook(uc.HOOK_CODE, pacer.address(seam.fail_here), how, begin=at, end=at)
    lab.pcpu.forget_code(at >> 12)
    return hook


@pytest.mark.parametrize("how", HOW, ids=str)
@pytest.mark.parametrize("kind", KINDS)
def test_a_death_ends_the_run_and_the_engine_is_made_anew(kind: str, how: int) -> None:
    lab = Lab(kind)
    at = lab.put("48ffc0 49ffc7 90 0f05")  # inc rax; inc r15; nop; syscall
    for n in range(3):
        hook = plant(lab, at + 6, how)
        lab.state[RAX] = 10
        with pytest.raises(EngineDied, match=HOW[how]):
            lab.run(at)
        assert lab.state[R15] == n * 2 + 1  # what it had done is done, and seen by whoever looks
        lab.pcpu._engine.remove_hook(hook)
        lab.pcpu.load(lab.pcpu.initial, 0x1000)
        lab.state[RAX], lab.state[R15] = 1, n * 2 + 1
        lab.run(at)
        assert lab.state[RAX] == 2 and lab.state[R15] == n * 2 + 2
    lab.close()


def test_what_the_machine_had_asked_of_the_old_engine_holds_of_the_new_one() -> None:
    lab = Lab("virtual")
    at = lab.put("0fa2 66ed 90 0f05")  # cpuid; in ax, dx; nop; syscall
    seen: list[str] = []
    lab.pcpu.on_cpuid = lambda: seen.append("cpuid")
    lab.pcpu.on_io = lambda port, size, is_write, value: seen.append("in") or 0  # type: ignore[func-returns-value]
    hook = plant(lab, at + 4, signal.SIGSEGV)
    with pytest.raises(EngineDied):
        lab.run(at)
    lab.pcpu._engine.remove_hook(hook)
    lab.pcpu.load(lab.pcpu.initial, 0x1000)
    lab.pcpu.watch.add(DATA >> 12)
    before = lab.pcpu.executed
    lab.run(at)
    assert seen == ["cpuid", "in"] * 2 and lab.pcpu.executed - before == 4
    lab.close()


@pytest.mark.parametrize("kind", KINDS)
def test_what_a_run_had_to_tell_is_not_told_of_the_next_one(kind: str) -> None:
    """A handler failed in mid-block, or a guest had escaped, and then the engine died of the same block."""

    def bad() -> None:
        if guilty:
            raise ValueError

    lab = Lab(kind)
    lab.pcpu.contain()
    lab.pcpu.on_cpuid = bad
    for what in ("a failure", "an escape"):
        guilty = what == "a failure"
        at = lab.put("90 0fa2 90 0f05")  # nop; cpuid; nop; syscall
        hook = plant(lab, at + 3, signal.SIGSEGV)
        if not guilty:
            lab.pcpu._words[pacer.ESCAPED] = 1  # as the pacer would have noted at the CPUID
        with pytest.raises(EngineDied):
            lab.run(at)
        lab.pcpu._engine.remove_hook(hook)
        lab.pcpu.load(lab.pcpu.initial, 0x1000)
        lab.run(lab.put("90 0f05"))
    lab.close()


@pytest.mark.parametrize("kind", ["wall", "virtual"])
def test_a_debuggers_breakpoints_are_as_exact_on_the_new_engine(kind: str) -> None:
    lab = Lab(kind)
    at = lab.put("48ffc0 90 48ffc3 48ffc3 0f05")  # inc rax; nop; inc rbx; inc rbx; syscall
    lab.pcpu.debug.allow(True)
    hook = plant(lab, at + 3, signal.SIGSEGV)
    with pytest.raises(EngineDied):
        lab.run(at)
    lab.pcpu._engine.remove_hook(hook)
    lab.pcpu.load(lab.pcpu.initial, 0x1000)
    seen: list[int] = []

    def broke() -> None:
        seen.append(lab.state[RBX])
        lab.pcpu.pass_once()

    lab.pcpu.on_break = broke
    lab.pcpu.debug.add(at + 7)
    lab.pcpu.forget_code(at >> 12)
    lab.run(at)
    assert seen == [1] and lab.state[RBX] == 2
    lab.close()


def test_engines_of_several_threads_die_without_harm_to_each_other() -> None:
    def live_and_die(lab: Lab) -> None:
        at = lab.put("48ffc0 90 0f05")
        for how in [*HOW] * 5:
            hook = plant(lab, at + 3, how)
            with pytest.raises(EngineDied):
                lab.run(at)
            lab.pcpu._engine.remove_hook(hook)
            lab.pcpu.load(lab.pcpu.initial, 0x1000)
            lab.run(at)
        survived.append(lab)

    survived: list[Lab] = []
    labs = [Lab(), Lab("virtual"), Lab()]
    threads = [threading.Thread(target=live_and_die, args=(lab,)) for lab in labs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(survived) == 3
    for lab in labs:
        lab.close()


def run_script(body: str) -> Any:
    script = "from tests.engine.test_death import *\nimport ctypes, faulthandler\n" + body
    root = Path(__file__).parents[2]
    return subprocess.run([sys.executable, "-c", script], cwd=root, capture_output=True, text=True)


def test_where_python_is_on_the_stack_a_death_is_a_death() -> None:
    done = run_script(
        "lab = Lab()\nlab.pcpu.on_syscall = lambda: ctypes.string_at(8)\nlab.run(lab.put('0f05'))\nprint('went on')"
    )
    assert done.returncode == -signal.SIGSEGV and "went on" not in done.stdout


@pytest.mark.parametrize("when", ["before", "after"])
def test_the_last_words_of_faulthandler_are_heard_if_it_is_not_the_engine(when: str) -> None:
    order = ["faulthandler.enable()", "lab = Lab()"]
    lines = order if when == "before" else order[::-1]
    done = run_script("\n".join(lines) + "\nctypes.string_at(8)")
    assert done.returncode == -signal.SIGSEGV and "Fatal Python error: Segmentation fault" in done.stderr


@pytest.mark.parametrize("how", ["ctypes.string_at(8)", "os.abort()"])
def test_handlers_that_call_each_other_end(how: str) -> None:
    """faulthandler has us for the one before it, and we have it for the one before us."""
    done = run_script(f"import os\nfirst = Lab()\nfaulthandler.enable()\nsecond = Lab()\n{how}")
    assert done.returncode in (-signal.SIGSEGV, -signal.SIGABRT)
    assert done.stderr.count("Fatal Python error") == 1


def test_a_signal_that_another_process_sends_means_the_process() -> None:
    script = """
import os, subprocess
lab = Lab()
lab.state[RIP] = lab.put("ebfe")
subprocess.Popen(["sh", "-c", f"sleep 0.3; kill -ABRT {os.getpid()}"])
lab.pcpu.run()
"""
    done = run_script(script)
    assert done.returncode == -signal.SIGABRT and "EngineDied" not in done.stderr


def test_where_guest_code_was_is_in_the_reason() -> None:
    lab = Lab()
    hook = plant(lab, CODE, 0)
    lab.put("90 0f05")
    with pytest.raises(EngineDied, match=f"while it ran guest code from {CODE:#x} on"):
        lab.run()
    assert lab.state[RIP] == CODE
    lab.pcpu._engine.remove_hook(hook)
    lab.close()
