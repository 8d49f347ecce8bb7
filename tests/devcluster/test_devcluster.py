"""The parts of devcluster that need no cluster; the real one is in `test_running_cluster`."""

from __future__ import annotations

import dataclasses
import io
import json
import os
import re
import signal
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.devcluster import images, places, processes
from tests.devcluster.addons import manifest
from tests.devcluster.bases import PYTHON_RUN
from tests.devcluster.commands import DevclusterError
from tests.devcluster.configuration import kubeconfig as kubeconfig_text
from tests.devcluster.pause import PAUSE_IMAGE, write_pause_archive
from tests.devcluster.processes import Command, Record
from tests.devcluster.toolchain import KUBERNETES


@pytest.fixture
def state(tmp_path: Path) -> places.State:
    return places.State(folder=tmp_path / "state", volatile=tmp_path / "volatile")


@pytest.fixture
def sleeper(state: places.State) -> Iterator[Record]:
    """A real process, started as the cluster's are."""
    state.folder.mkdir()
    command = Command(name="sleeper", argv=(sys.executable, "-c", "import time; time.sleep(600)"))
    record = processes.start(state, command)
    yield record
    if processes.is_alive(record):
        os.kill(record.pid, signal.SIGKILL)
    # It is a child of this process here, and would stay a zombie.
    os.waitpid(record.pid, 0)


class TestKeys:
    @pytest.mark.parametrize(
        "other",
        [
            pytest.param(("a", "c"), id="another text"),
            pytest.param(("ab", ""), id="the same letters divided otherwise"),
            pytest.param(("b", "a"), id="another order"),
            pytest.param(("a", "b", ""), id="one text more"),
        ],
    )
    def test_a_change_of_text_changes_the_key(self, other: tuple[str, ...]) -> None:
        assert places.key_of(*other) != places.key_of("a", "b")

    def test_a_change_inside_a_folder_changes_the_key(self, tmp_path: Path) -> None:
        (tmp_path / "deep").mkdir()
        source = tmp_path / "deep" / "main.go"
        source.write_text("package main")
        before = places.key_of(tmp_path)
        source.write_text("package main\n")
        edited = places.key_of(tmp_path)
        source.rename(tmp_path / "deep" / "other.go")

        assert len({before, edited, places.key_of(tmp_path)}) == 3

    def test_a_base_has_a_new_name_when_its_packages_change(self) -> None:
        more = dataclasses.replace(PYTHON_RUN, packages=(*PYTHON_RUN.packages, "git"))

        assert more.key != PYTHON_RUN.key

    def test_what_failed_half_way_is_not_taken_for_made(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("CELERY_FLEET_CACHE", str(tmp_path))
        target = tmp_path / "programs" / "one"

        def fail(folder: Path) -> None:
            (folder / "half").touch()
            raise DevclusterError("no space left")

        with pytest.raises(DevclusterError):
            places.made_once(target, fail)

        assert list(target.parent.iterdir()) == []


class TestProcesses:
    def test_a_started_process_is_known_by_its_pid_file(self, state: places.State, sleeper: Record) -> None:
        assert processes.running(state, "sleeper") == sleeper

    def test_a_pid_that_was_given_to_another_process_is_never_killed(
        self, state: places.State, sleeper: Record
    ) -> None:
        recycled = dataclasses.replace(sleeper, began="another-boot/1")
        (state.pids / "sleeper.json").write_text(json.dumps(dataclasses.asdict(recycled)))

        assert processes.running(state, "sleeper") is None
        assert processes.stop(state, "sleeper") is False
        assert processes.is_alive(sleeper)

    def test_a_stopped_process_is_gone_and_a_second_stop_finds_nothing(
        self, state: places.State, sleeper: Record
    ) -> None:
        assert processes.stop(state, "sleeper") is True
        assert not processes.is_alive(sleeper)
        assert processes.stop(state, "sleeper") is False

    @pytest.mark.parametrize("content", ["", "{", "[1]", '{"pid": 1}'])
    def test_a_pid_file_cut_short_by_a_crash_names_nobody(self, state: places.State, content: str) -> None:
        state.pids.mkdir(parents=True)
        (state.pids / "etcd.json").write_text(content)

        assert processes.running(state, "etcd") is None

    def test_the_fingerprint_follows_flags_and_files(self, tmp_path: Path) -> None:
        config = tmp_path / "kubelet.json"
        config.write_text("{}")
        command = Command(name="kubelet", argv=("kubelet", "--v=1"), reads=(config,))
        before = command.fingerprint
        other_flag = dataclasses.replace(command, argv=("kubelet", "--v=2")).fingerprint
        config.write_text('{"failSwapOn": false}')

        assert len({before, other_flag, command.fingerprint}) == 3


class TestContents:
    def test_the_kubeconfig_is_complete_in_itself(self, state: places.State) -> None:
        state.pki.mkdir(parents=True)
        for name in ("ca.crt", "admin.crt", "admin.key"):
            (state.pki / name).write_text(name)

        assert json.loads(kubeconfig_text(state, "admin")) == {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [
                {
                    "name": "devcluster",
                    "cluster": {
                        "server": "https://10.245.0.1:6443",
                        "certificate-authority-data": "Y2EuY3J0",
                    },
                }
            ],
            "users": [
                {
                    "name": "admin",
                    "user": {
                        "client-certificate-data": "YWRtaW4uY3J0",
                        "client-key-data": "YWRtaW4ua2V5",
                    },
                }
            ],
            "contexts": [{"name": "devcluster", "context": {"cluster": "devcluster", "user": "admin"}}],
            "current-context": "devcluster",
        }

    def test_the_binary_answers_to_every_name_it_is_linked_as(self) -> None:
        source = (KUBERNETES.sources / "main.go").read_text()

        assert [name for name in KUBERNETES.names if f'"{name}"' not in source] == []

    def test_the_volume_class_and_the_provisioner_agree_on_a_name(self) -> None:
        source = (KUBERNETES.sources / "volumes.go").read_text()
        named = re.search(r'ourName\s*= "(.+)"', source)
        provisioners = {item.get("provisioner") for item in json.loads(manifest())["items"]} - {None}

        assert named is not None
        assert provisioners == {named[1]}

    def test_the_pause_archive_names_its_image(self, tmp_path: Path) -> None:
        program, archive = tmp_path / "pause", tmp_path / "pause.tar"
        program.write_bytes(b"\x7fELF")
        write_pause_archive(program, archive)

        with tarfile.open(archive) as outer:
            described = outer.extractfile("manifest.json")
            layer = outer.extractfile("layer.tar")
            assert described is not None
            assert layer is not None
            with tarfile.open(fileobj=io.BytesIO(layer.read())) as inner:
                modes = {entry.name: entry.mode for entry in inner}

            assert json.load(described)[0]["RepoTags"] == [PAUSE_IMAGE]
            assert modes == {"pause": 0o755}

    def test_pip_variables_win_over_files_and_unrelated_settings_stay_outside(self) -> None:
        listed = [
            ":env:.index-url='https://variable.example/simple'",
            ":env:.disable-pip-version-check='1'",
            "global.index-url='https://file.example/simple'",
            "global.timeout='60'",
        ]

        assert images.pip_settings(listed) == {
            "index-url": "https://variable.example/simple",
            "timeout": "60",
        }
