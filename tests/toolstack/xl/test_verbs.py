# SPDX-License-Identifier: GPL-2.0-or-later
"""xl's verbs and options, as Debian's xl lists them itself: each is here, or answered in a sentence."""

from __future__ import annotations

import re

import pytest
import typer.main

from pvhv.cli.app import app
from pvhv.cli.not_here import WHY
from tests.toolstack.xl.judge import HOW_TO_GET_IT, PROGRAM, Judge

pytestmark = pytest.mark.skipif(not PROGRAM.exists(), reason=HOW_TO_GET_IT)

COMMANDS = typer.main.get_command(app).commands  # type: ignore[attr-defined]


@pytest.fixture(scope="module")
def judge(tmp_path_factory: pytest.TempPathFactory) -> Judge:
    return Judge(tmp_path_factory.mktemp("xl"))


@pytest.fixture(scope="module")
def verbs(judge: Judge) -> list[str]:
    listed = judge.run("help").stdout.decode()
    found = re.findall(r"^ ([a-z][a-z0-9-]+) +", listed, re.MULTILINE)
    assert len(found) > 80 and "create" in found and "qemu-monitor-command" in found
    return found


def test_every_verb_is_here_or_answered(verbs: list[str]) -> None:
    assert [verb for verb in verbs if verb not in COMMANDS] == []
    assert [verb for verb in WHY if verb not in verbs] == []  # and no other
    assert sorted(set(verbs) - set(WHY)) == [
        "block-attach", "block-detach", "block-list", "cd-eject", "cd-insert",
        "console", "create", "debug-keys", "destroy", "dmesg", "domid", "domname", "dump-core", "info", "list",
        "mem-max", "mem-set", "pause", "reboot", "rename", "shutdown", "sysrq", "top", "unpause", "uptime", "vcpu-list",
        "vcpu-set", "vm-list",
    ]  # fmt: skip


def test_every_option_of_a_verb_that_is_here_is_taken(judge: Judge, verbs: list[str]) -> None:
    seen = 0
    for verb in sorted(set(verbs) - set(WHY)):
        text = judge.run("help", verb).stdout.decode()
        ours = {option for parameter in COMMANDS[verb].params for option in parameter.opts} | {"-h"}
        theirs = set(re.findall(r"(?:^ *|, |\[)(-[A-Za-z]|--[a-z-]+)(?![a-z-])", text.partition("\n")[2], re.MULTILINE))
        theirs |= set(re.findall(r"\[(-[a-z])\]", text.partition("\n")[0]))
        assert theirs <= ours, verb
        seen += len(theirs)
    assert seen > 30


def test_a_beginning_of_a_verb_means_what_it_means_to_xl(judge: Judge, verbs: list[str]) -> None:
    """Where only one of xl's verbs begins so, and none of our own."""
    group = typer.main.get_command(app)
    ours = [verb for verb in COMMANDS if verb not in verbs]
    for verb in verbs:
        beginning = next(
            verb[:length]
            for length in range(1, len(verb) + 1)
            if sum(each.startswith(verb[:length]) for each in verbs) == 1 or length == len(verb)
        )
        if not any(each.startswith(beginning) for each in ours):
            with group.make_context("pvhv", [], resilient_parsing=True) as context:
                assert group.get_command(context, beginning).name == verb, beginning  # type: ignore[attr-defined]
