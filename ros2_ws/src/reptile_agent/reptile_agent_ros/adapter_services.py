"""What adapter_node does on request beside adapting: freeze, save, restore, consolidate, reset.

No path ever comes from outside: files have fixed names in the folder that the parameter
`state_folder` names, and without that parameter nothing is read or written.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path

from rclpy.node import Node
from rclpy.service import Service
from reptile_agent.onboard.adapted import Adaptation
from reptile_agent.onboard.adapter import Adapter
from reptile_agent.onboard.saved import SavedError
from std_srvs.srv import SetBool, Trigger

SPOOL = 'spool'
ADAPTED = 'adapted.safetensors'
START = 'start.safetensors'


def state_folder(given: str) -> Path | None:
    """The folder of what is kept across restarts, made if it is not there; None: nothing is kept.

    Raises:
        ValueError: it is no absolute path, which would depend on where the node was started; or
            something in it leads out of it.
        OSError: it cannot be made.
    """
    if not given:
        return None
    folder = Path(given)
    if not folder.is_absolute():
        raise ValueError(
            f"state_folder is '{given}'; give an absolute path, or '' to keep nothing"
        )
    folder.mkdir(parents=True, exist_ok=True)
    if (folder / SPOOL).is_symlink():
        raise ValueError(f'{folder / SPOOL} is a link and may lead elsewhere; remove it')
    return folder


class AdapterServices:
    """Serves `~/freeze`, `~/save`, `~/restore`, `~/consolidate` and `~/reset` of a node.

    Args:
        node: that offers them.
        adapter: that does them.
        paused: makes a context in which nothing is learned in the background.
        folder: of the files; None: those that need one are refused.
        epsilon: outer step size of `~/consolidate`; 0: refused.
        publish: takes restored parameters that the gate looked at.
        version: of the parameters that drive the robot; LookupError where that is not known.
        active: whether the node may publish parameters now.
    """

    def __init__(
        self,
        node: Node,
        adapter: Adapter,
        paused: Callable[[], AbstractContextManager[None]],
        folder: Path | None,
        epsilon: float,
        publish: Callable[[Adaptation], None],
        version: Callable[[], int],
        active: Callable[[], bool],
    ) -> None:
        self._node, self._adapter, self._paused = node, adapter, paused
        self._folder = folder
        self._epsilon, self._publish = epsilon, publish
        self._version, self._active = version, active
        self._made: list[Service] = [node.create_service(SetBool, '~/freeze', self._on_freeze)]
        for name in ('save', 'restore', 'consolidate', 'reset'):
            self._made.append(
                node.create_service(
                    Trigger, f'~/{name}', partial(self._answer, getattr(self, name))
                )
            )

    def use(self, adapter: Adapter) -> None:
        """Serve them with another adapter, from now on."""
        self._adapter = adapter
        self.load_start()

    def destroy(self) -> None:
        """Offer them no longer."""
        for service in self._made:
            self._node.destroy_service(service)
        self._made = []

    def load_start(self) -> None:
        """Begin at the start that was consolidated before a restart; a bad file is said and left.

        Adaptations begin at the bundle's start then: that is always there.
        """
        if self._folder is None or not (self._folder / START).exists():
            return
        try:
            self._adapter.restore_start(self._folder / START)
            self._node.get_logger().info(f'adaptations begin at {self._folder / START}')
        except (SavedError, OSError) as error:
            self._node.get_logger().error(f"{error}; adaptations begin at the bundle's start")

    def save(self) -> tuple[bool, str]:
        """Keep the parameters in use."""
        file = self._file(ADAPTED)
        version = self._version()
        self._adapter.save(file, version)
        return True, f'version {version} is in {file}'

    def restore(self) -> tuple[bool, str]:
        """Read what was saved, and publish it if the gate accepts it."""
        if not self._active():
            raise ValueError('the node is not active')
        with self._paused():
            found = self._adapter.restore(self._file(ADAPTED))
            self._publish(found)
        return found.verdict.accepted, found.verdict.reason

    def consolidate(self) -> tuple[bool, str]:
        """One outer step towards what is in use; kept where a folder is given."""
        if self._epsilon == 0:
            return False, 'consolidate_epsilon is 0; set it to a step size in (0, 1] to allow this'
        with self._paused():
            found = self._adapter.consolidate(self._epsilon)
        if found.verdict.accepted and self._folder is not None:
            self._adapter.save_start(self._folder / START)
        return found.verdict.accepted, found.verdict.reason

    def reset(self) -> tuple[bool, str]:
        """Forget what was consolidated; what drives the robot is the policy's (its ~/rollback)."""
        if self._folder is not None:
            (self._folder / START).unlink(missing_ok=True)
        self._adapter.reset()
        return True, "adaptations begin at the bundle's start"

    def _file(self, name: str) -> Path:
        if self._folder is None:
            raise ValueError("state_folder is ''; set it to a folder to keep parameters in")
        return self._folder / name

    def _on_freeze(self, request: SetBool.Request, response: SetBool.Response) -> SetBool.Response:
        """Freeze (true) or thaw (false)."""
        (self._adapter.freeze if request.data else self._adapter.thaw)()
        response.success = True
        response.message = 'nothing is adapted until it is thawed' if request.data else 'adapting'
        return response

    def _answer(
        self,
        what: Callable[[], tuple[bool, str]],
        request: Trigger.Request,
        response: Trigger.Response,
    ) -> Trigger.Response:
        """Say in a sentence what came of it."""
        try:
            response.success, response.message = what()
        except (LookupError, ValueError, RuntimeError, OSError) as error:
            response.success, response.message = False, str(error)
        return response
