"""Python waits for a machine that runs in the page, wherever a notebook may wait: nothing of it deadlocks."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from .jupyter import Notebook

Open = Callable[..., Notebook]
START = "import v86lab as lab\nvm = lab.Machine()"


def test_a_command_in_the_cell_that_shows_the_machine_and_in_the_next_one(open_notebook: Open) -> None:
    notebook = open_notebook(
        [START, "display(vm)\nprint(vm.run('echo same cell').stdout)", "vm.run('echo next cell').stdout", "vm.engine"]
    )
    notebook.run_all()
    assert "same cell" in notebook.text(1)
    assert notebook.text(2) == "'next cell\\n'"
    assert notebook.text(3) == "EngineInfo(kind='browser', why='a page that shows this machine runs it')"


def test_a_loop_with_tqdm(open_notebook: Open) -> None:
    notebook = open_notebook(
        [START, "vm", "from tqdm.auto import tqdm\n[int(vm.run(f'echo {n}').stdout) for n in tqdm(range(5))]"]
    )
    notebook.run_all()
    assert notebook.text(2).endswith("[0, 1, 2, 3, 4]")


def test_a_button_whose_click_waits_for_the_guest(open_notebook: Open) -> None:
    notebook = open_notebook(
        [
            START,
            "vm",
            "import ipywidgets\nbutton, out = ipywidgets.Button(description='ask'), ipywidgets.Output()\n"
            "button.on_click(lambda _: out.append_stdout(vm.run('echo clicked').stdout))\n"
            "display(button, out)",
        ]
    )
    notebook.run_all()
    notebook.page.get_by_role("button", name="ask").click()
    notebook.output(2).get_by_text("clicked").wait_for()


def test_an_awaitable_twin(open_notebook: Open) -> None:
    notebook = open_notebook([START, "vm", "(await vm.aio.run('echo awaited')).stdout"])
    notebook.run_all()
    assert notebook.text(2) == "'awaited\\n'"


def test_an_interrupt_ends_what_is_waited_for_and_the_machine_goes_on(open_notebook: Open) -> None:
    notebook = open_notebook(
        [START, "vm", "vm.run('echo begun > /tmp/f; sleep 1000')", "vm.run('cat /tmp/f; ps | grep -c [s]leep').stdout"]
    )
    notebook.run(0)
    notebook.run(1)
    notebook.run(2, wait=False)
    notebook.page.wait_for_function("() => harness.runs.has(2)")
    notebook.page.get_by_text("Running", exact=False).first.wait_for()
    notebook.page.wait_for_timeout(1500)  # let the command begin; what follows holds if it has not, too
    notebook.interrupt()
    assert "KeyboardInterrupt" in str(notebook.wait(2))
    assert notebook.run(3)[0]["data"]["text/plain"] == "'begun\\n0\\n'"


def test_three_machines_in_one_notebook_and_one_in_another(open_notebook: Open) -> None:
    one = open_notebook(
        [
            "import v86lab as lab\nvms = [lab.Machine() for _ in range(3)]",
            "for vm in vms:\n    display(vm)",
            "[vm.run(f'echo {n} > /root/n; cat /root/n').stdout for n, vm in enumerate(vms)]",
            "from concurrent.futures import ThreadPoolExecutor\nwith ThreadPoolExecutor() as pool:\n"
            "    print(list(pool.map(lambda vm: vm.run('cat /root/n').stdout, vms)), {vm.engine.kind for vm in vms})",
        ]
    )
    one.run_all()
    two = open_notebook([START, "vm", "vm.run('ls /root').stdout, vm.engine.kind"], page=one.page.context.new_page())
    two.run_all()
    assert one.text(2) == r"['0\n', '1\n', '2\n']"
    assert one.text(3) == r"['0\n', '1\n', '2\n'] {'browser'}" + "\n"
    assert two.text(2) == "('', 'browser')"


@pytest.mark.parametrize("shown_first", [False, True])
def test_whatever_is_run_before_the_machine_is_shown_runs_on_node_and_the_view_follows(
    open_notebook: Open, shown_first: bool
) -> None:
    cells = [START, "vm.run('echo hidden').stdout", "vm", "vm.engine.kind"]
    notebook = open_notebook(
        cells if not shown_first else [START, "vm", "vm.run('echo seen').stdout", "vm.engine.kind"]
    )
    notebook.run_all()
    assert notebook.text(3) == ("'browser'" if shown_first else "'node'")
    view = notebook.output(1 if shown_first else 2)
    view.get_by_text("in this browser" if shown_first else "server", exact=False).first.wait_for()
    view.locator(".xterm-rows").get_by_text("You are root", exact=False).wait_for()
