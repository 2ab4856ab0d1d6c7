"""Sign a bundle, so that a robot can tell who made it."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from reptile_agent.atomic import atomic_write
from reptile_agent.commands.console import UserError, console
from reptile_agent.onboard import signature
from reptile_agent.onboard.bundle import Bundle

PASSWORD = "REPTILE_AGENT_KEY_PASSWORD"


@dataclass
class Command:
    """Sign a bundle, so that a robot can tell who made it.

    The signature, model.sig, covers every file of the bundle (OpenSSF Model Signing; needs the
    extra `sign`). A pair of keys, of which only the public one may leave the workshop, is made by

      openssl ecparam -name prime256v1 -genkey -noout -out private.pem

      openssl ec -in private.pem -pubout -out public.pem

    and checked by `reptile-agent verify BUNDLE --key public.pem`. The password of an encrypted
    private key is read from the environment, REPTILE_AGENT_KEY_PASSWORD.
    """

    bundle: Annotated[Path, tyro.conf.Positional]
    """Folder of the bundle."""
    key: Path
    """File with the private key (PEM), elliptic, P-256, P-384 or P-521."""

    def run(self) -> int:
        """Load, which checks it, and sign."""
        if not self.key.is_file():
            raise UserError(
                f"there is no private key {self.key}; make one as `reptile-agent sign --help` says"
            )
        names = ["manifest.json", *Bundle.load(self.bundle).manifest.files]
        signed = signature.sign(self.bundle, names, self.key, os.environ.get(PASSWORD))
        atomic_write(self.bundle / signature.FILE, signed)
        console.print(
            f"signed: {self.bundle / signature.FILE}; check it with `reptile-agent verify "
            f"{self.bundle} --key PUBLIC_KEY`"
        )
        return 0
