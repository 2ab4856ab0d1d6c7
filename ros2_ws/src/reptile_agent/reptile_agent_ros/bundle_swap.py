"""`~/load_bundle`: another bundle of the same robot, without a restart.

Reading, checking and trying a bundle takes half a second and more: a thread does it, with all that
is made of it, while the node goes on with what it has. Only what is whole and allowed is taken,
between two callbacks of the executor. A name is all that comes from outside: no path.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from functools import partial
from pathlib import Path
from typing import Any, Generic, TypeVar

from rclpy.node import Node
from reptile_agent.onboard.bundle import Bundle, BundleError
from reptile_agent.onboard.exchange import find_in, objection
from reptile_agent_msgs.srv import LoadBundle
from reptile_agent_ros.answers import create_late_service
from reptile_agent_ros.background import Background, Job
from reptile_agent_ros.settings import value

Made = TypeVar('Made')
Answer = Callable[[LoadBundle.Response], None]


class BundleSwap(Generic[Made]):
    """Serves `~/load_bundle` of a node.

    Args:
        node: whose parameters `bundles_folder` and `bundle_key` say what may be loaded.
        present: the bundle in force.
        make: makes of a bundle what the node works with; called in a thread.
        take: works with that from now on; called on the executor's thread.
        objects: why the node may not exchange its bundle now; empty where it may.

    Raises:
        ValueError: bundles_folder is no absolute path.
    """

    def __init__(
        self,
        node: Node,
        present: Callable[[], Bundle],
        make: Callable[[Bundle], Made],
        take: Callable[[Made], None],
        objects: Callable[[], str] = lambda: '',
    ) -> None:
        self._node, self._present, self._objects = node, present, objects
        self._make, self._take = make, take
        folder, key = value(node, 'bundles_folder'), value(node, 'bundle_key')
        if folder and not Path(folder).is_absolute():
            raise ValueError(
                f"bundles_folder is '{folder}'; give an absolute path, or '' to load none"
            )
        self._folder, self._key = folder, Path(key) if key else None
        self._closing = False
        self._background = Background(lambda what: node.executor.create_task(what))
        self._service = create_late_service(node, LoadBundle, '~/load_bundle', self._begin)

    def destroy(self) -> None:
        """Offer it no longer; what is being loaded is waited for, and not taken."""
        self._closing = True
        self._background.close()
        self._node.destroy_service(self._service)

    def _begin(self, request: LoadBundle.Request, answer: Answer) -> None:
        """Refuse at once what can be, and have the rest loaded."""
        try:
            if not self._folder:
                raise BundleError(
                    "bundles_folder is ''; set it to the folder of the bundles that may be loaded"
                )
            if not self._background.idle:
                raise BundleError('another bundle is being loaded; ask again')
            path = find_in(Path(self._folder), request.name)
            self._check_time()
        except (BundleError, OSError) as error:
            self._refuse(request.name, error, answer)
            return
        present = self._present()
        self._background.do(
            Job(lambda _: self._load(path, present), partial(self._done, request.name, answer))
        )

    def _load(self, path: Path, present: Bundle) -> tuple[Bundle, Made]:
        """In the thread."""
        bundle = Bundle.load(path, self._key)
        against = objection(present.manifest, bundle.manifest)
        if against:
            raise BundleError(f'{path} may not take the place of {present.path}: {against}')
        return bundle, self._make(bundle)

    def _done(self, name: str, answer: Answer, future: Future[Any]) -> None:
        try:
            bundle, made = future.result()
            self._check_time()
            self._take(made)
        except Exception as error:
            # Whatever a bundle leads to, the node goes on with what it has.
            self._refuse(name, error, answer)
            return
        start = bundle.manifest.start_sha256
        self._node.get_logger().info(f"bundle '{name}' is in force: start {start[:12]}")
        answer(
            LoadBundle.Response(
                success=True, message=f'{bundle.path} is in force', start_sha256=start
            )
        )

    def _check_time(self) -> None:
        """Whether it may be exchanged now.

        Raises:
            BundleError: it may not.
        """
        against = 'the node lets go of everything' if self._closing else self._objects()
        if against:
            raise BundleError(against)

    def _refuse(self, name: str, error: Exception, answer: Answer) -> None:
        known = isinstance(error, BundleError | ValueError | LookupError | OSError)
        message = str(error) if known else f'{type(error).__name__}: {error}'
        self._node.get_logger().error(f'bundle {name[:100]!r} refused: {message}')
        start = self._present().manifest.start_sha256
        answer(LoadBundle.Response(success=False, message=message, start_sha256=start))
