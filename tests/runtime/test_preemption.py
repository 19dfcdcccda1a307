"""Signals to real processes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from functools import partial

import pytest
import torch

from tests.helpers.processes import run_processes
from tests.helpers.terminal import take_signals
from vice.runtime.preemption import SIGNALS, STOPPED, Notice, Preempted, watch_signals


@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_is_noted_and_the_handlers_come_back(number, request):
    # nohup, under which tests may run, has one of them ignored.
    request.addfinalizer(partial(signal.signal, number, signal.getsignal(number)))
    if signal.getsignal(number) == signal.SIG_IGN:
        signal.signal(number, signal.SIG_DFL)
    before = [signal.getsignal(each) for each in SIGNALS]
    with watch_signals() as notice:
        assert notice.name == "no signal"
        assert not notice.given_anywhere(torch.device("cpu"))
        notice.begun.value = 1
        with watch_signals() as inner:
            os.kill(os.getpid(), number)
            assert inner is notice
        assert notice.given_anywhere(torch.device("cpu"))
        assert notice.name == signal.Signals(number).name
    assert [signal.getsignal(each) for each in SIGNALS] == before


def _told(rank: int, ranks: int) -> dict:
    notice = Notice(signal_number=int(signal.SIGUSR1) if rank == 1 else 0)
    given = notice.given_anywhere(torch.device("cpu"))
    return {"given": given, "name": notice.name}


def test_all_ranks_learn_of_one_ranks_signal():
    assert run_processes(_told, 2) == [{"given": True, "name": "SIGUSR1"}] * 2


def test_children_are_told():
    """A main process that is signalled passes it on to what it has spawned, not to daemons."""
    script = textwrap.dedent(
        """
        import multiprocessing, os, signal, sys, time
        from vice.runtime.preemption import watch_signals

        def child(ready):
            with watch_signals() as notice:
                ready.set()
                while not notice.signal_number:
                    time.sleep(0.01)
            sys.exit(3)

        if __name__ == "__main__":
            context = multiprocessing.get_context("fork")
            ready = context.Event()
            process = context.Process(target=child, args=(ready,))
            daemon = context.Process(target=time.sleep, args=(60,), daemon=True)
            process.start(), daemon.start()
            ready.wait()
            with watch_signals() as notice:
                os.kill(os.getpid(), signal.SIGUSR1)
                process.join(20)
                print(notice.name, process.exitcode, daemon.is_alive())
        """
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.stdout.split() == ["SIGUSR1", "3", "True"], done.stderr


def test_a_data_loader_outlives_signals_but_not_for_ever():
    script = textwrap.dedent(
        """
        import time, vice.runtime.preemption
        vice.runtime.preemption.LOADER_SECONDS = 1
        vice.runtime.preemption.ignore_job_signals()
        print("ready", flush=True)
        time.sleep(60)
        """
    )
    process = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE)
    assert process.stdout.readline() == b"ready\n"
    for number in (signal.SIGUSR1, signal.SIGUSR2):
        process.send_signal(number)
    time.sleep(0.2)
    assert process.poll() is None
    process.terminate()
    assert process.wait(timeout=20) == -signal.SIGALRM


def test_signals_are_left_to_the_parent_once_in_each_process():
    script = textwrap.dedent(
        """
        import os, signal, vice.runtime.preemption
        set_handler, calls = signal.signal, []
        signal.signal = lambda *given: (calls.append(given), set_handler(*given))
        for _ in range(3):
            vice.runtime.preemption.ignore_job_signals()
        once = len(calls)
        child = os.fork()
        for _ in range(3):
            vice.runtime.preemption.ignore_job_signals()
        if child:
            os.waitpid(child, 0)
        print(once == len(set(number for number, _ in calls)), len(calls) // once, flush=True)
        """
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.stdout.split("\n") == ["True 2", "True 1", ""], done.stderr


def test_the_exit_status_of_a_stopped_run():
    with pytest.raises(SystemExit) as caught:
        raise Preempted("saved")
    assert caught.value.code == STOPPED == 75


def test_spawned_processes_begin_with_signals_held_back(tmp_path):
    """Also the first, with which Python starts a helper."""
    script = tmp_path / "script.py"
    script.write_text(
        textwrap.dedent(
            """
            import multiprocessing, signal
            from vice.runtime.interrupts import held_back
            from vice.runtime.preemption import SIGNALS

            def missing(queue):
                queue.put(set(SIGNALS) - signal.pthread_sigmask(signal.SIG_BLOCK, ()))

            if __name__ == "__main__":
                context = multiprocessing.get_context("spawn")
                queue = context.Queue()
                with held_back(SIGNALS):
                    for _ in range(2):
                        context.Process(target=missing, args=(queue,)).start()
                print(queue.get(), queue.get(), signal.pthread_sigmask(signal.SIG_BLOCK, ()))
            """
        )
    )
    done = subprocess.run([sys.executable, script], capture_output=True, text=True)
    assert done.stdout == "set() set() set()\n", done.stderr


def run_script(text):
    text = textwrap.dedent(text)
    return subprocess.run(
        [sys.executable, "-c", text], capture_output=True, text=True, preexec_fn=take_signals
    )


def test_a_signal_before_a_process_is_ready_for_it_is_kept():
    """As a Ctrl-C is that comes while the ranks import; the second does not end them either."""
    done = run_script(
        """
        import multiprocessing, os, signal, sys, time
        from vice.runtime.interrupts import held_back
        from vice.runtime.preemption import SIGNALS, watch_signals

        def child():
            time.sleep(0.5)
            with watch_signals(for_another=True) as notice:
                os.kill(os.getpid(), signal.SIGINT)
                time.sleep(0.1)
                number = notice.signal_number
            os.kill(os.getpid(), signal.SIGINT)
            sys.exit(number)

        process = multiprocessing.get_context("fork").Process(target=child)
        with held_back(SIGNALS):
            process.start()
        os.kill(process.pid, signal.SIGINT)
        process.join()
        print(process.exitcode)
        """
    )
    assert (done.stdout, done.stderr) == (f"{int(signal.SIGINT)}\n", "")


@pytest.mark.parametrize(
    ("before", "number", "status", "said"),
    [
        ("", "SIGINT", 130, "stopped by SIGINT before the first step"),
        ("", "SIGHUP", 130, "stopped by SIGHUP before the first step"),
        ("", "SIGTERM", 3, ""),
        ("notice.begun.value = 1", "SIGQUIT", 3, ""),
        ("notice.begun.value = 1; os.kill(os.getpid(), signal.SIGINT)", "SIGINT", 130,
         "stopped at once by a second SIGINT"),
        ("notice.begun.value = 1; os.kill(os.getpid(), signal.SIGHUP)", "SIGHUP", 3, ""),
        ("notice.begun.value = 1; os.kill(os.getpid(), signal.SIGTERM)", "SIGINT", 3, ""),
    ],
)  # fmt: skip
def test_a_person_ends_at_once_what_has_nothing_to_save_or_was_asked_before(
    before, number, status, said
):
    done = run_script(
        f"""
        import os, signal, subprocess, sys
        from vice.runtime.preemption import watch_signals
        with watch_signals() as notice:
            below = subprocess.Popen(["sleep", "60"])
            {before or "pass"}
            os.kill(os.getpid(), signal.{number})
        below.kill()
        sys.exit(3)
        """
    )
    assert done.returncode == status
    assert done.stderr.startswith(said) and len(done.stderr.splitlines()) == bool(said)
