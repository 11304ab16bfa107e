"""Who may do what in the bucket: reader, trainer and promoter.

Everyone may read; trainer and promoter have a policy of their own besides. Each is one AWS policy
document in `policies/`, with `${bucket}` for the bucket's name. Terraform gives them to roles; the
local S3 server understands the same documents, so that what is tested here is what is granted
there. Beside them there is the owner, who made the bucket and may do everything:
nothing that runs unattended needs it.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from string import Template
from typing import Any

from dualvla.store.keys import IDENTITIES, Keys

READER = IDENTITIES[0]
POLICIES = Path(__file__).with_name("policies")


def granted(identity: str) -> tuple[str, ...]:
    """Names of the policies that an identity has."""
    return tuple(dict.fromkeys((READER, identity)))


def policy(name: str, bucket: str) -> dict[str, Any]:
    """A policy document; bucket `*` is every bucket of a server."""
    text = (POLICIES / f"{name}.json").read_text(encoding="utf-8")
    document: dict[str, Any] = json.loads(Template(text).substitute(bucket=bucket))
    return document


def text(pairs: Mapping[str, Keys], bucket: str = "*") -> str:
    """SeaweedFS's `-s3.config` for the identities; it holds their secrets.

    Its documents are text inside the configuration. A pair in the server's own environment is its
    owner, beside these.
    """
    configuration = {
        "identities": [
            {
                "name": name,
                "credentials": [{"accessKey": pairs[name].access, "secretKey": pairs[name].secret}],
                "policyNames": list(granted(name)),
            }
            for name in IDENTITIES
        ],
        "policies": [
            {"name": name, "content": json.dumps(policy(name, bucket))} for name in IDENTITIES
        ],
    }
    return json.dumps(configuration, indent=2)
