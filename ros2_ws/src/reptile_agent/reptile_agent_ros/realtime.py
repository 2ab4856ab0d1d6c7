"""Control before all else: the process' threads under Linux' real-time scheduling."""

from __future__ import annotations

import os


def schedule(priority: int) -> str:
    """Schedule every thread that this process has now.

    First in, first out (SCHED_FIFO), as ros2_control's controller_manager does: what is awake runs
    at once, whatever else there is to do. Threads and processes made later are ordinary ones, so
    that no bundle is loaded before control.

    Args:
        priority: 1 to 99, 0 for the ordinary scheduling.

    Returns:
        Why it is not so; empty where it is.
    """
    # The flag stays on the way back: only root may take it away again.
    policy = (os.SCHED_FIFO if priority else os.SCHED_OTHER) | os.SCHED_RESET_ON_FORK
    try:
        for thread in os.listdir('/proc/self/task'):
            try:
                os.sched_setscheduler(int(thread), policy, os.sched_param(priority))
            except ProcessLookupError:  # It has ended since.
                continue
    except PermissionError as error:
        if not priority:
            return f'this user may not go back to ordinary scheduling: {error}'
        return (
            f'this user may not use real-time priority {priority}: allow it by a line '
            f"'USER - rtprio {priority}' in /etc/security/limits.conf, LimitRTPRIO={priority} in "
            f'a systemd unit or --ulimit rtprio={priority} of a container, or set '
            f'realtime_priority to 0'
        )
    except OSError as error:
        return f'no real-time scheduling here: {error}'
    return ''
