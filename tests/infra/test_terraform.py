"""Terraform's files: they parse, refer to what exists, and grant what the tests of S3 enforce."""

import json
import re
from pathlib import Path

import hcl2
import pytest

from dualvla.store import identities, keys

FOLDER = Path(__file__).parents[2] / "infra/terraform"
FILES = sorted(FOLDER.glob("*.tf"))
REFERENCE = re.compile(r"\b(?:data\.)?(aws_\w+)\.(\w+)")


def plain(value):
    """Without the parser's marks: quotes of strings, comments, block flags."""
    if isinstance(value, str):
        return value[1:-1] if value.startswith('"') and value.endswith('"') else value
    if isinstance(value, list):
        return [plain(one) for one in value]
    if isinstance(value, dict):
        return {plain(k): plain(v) for k, v in value.items() if not k.startswith("__")}
    return value


@pytest.fixture(scope="module")
def parsed():
    """Blocks of all files by kind: a list of mappings each."""
    merged: dict[str, list] = {}
    for path in FILES:
        with path.open() as stream:
            for kind, blocks in plain(hcl2.load(stream)).items():
                merged.setdefault(kind, []).extend(blocks)
    return merged


@pytest.fixture(scope="module")
def resources(parsed):
    return {
        (kind, name): body
        for block in parsed["resource"]
        for kind, named in block.items()
        for name, body in named.items()
    }


def test_every_reference_is_declared(parsed, resources):
    declared = set(resources) | {
        (kind, name) for block in parsed["data"] for kind, named in block.items() for name in named
    }
    variables = {name for block in parsed["variable"] for name in block}
    constants = {name for block in parsed["locals"] for name in block}
    for path in FILES:
        text = "\n".join(line.split("#")[0] for line in path.read_text().splitlines())
        assert set(REFERENCE.findall(text)) <= declared, path.name
        assert set(re.findall(r"\bvar\.(\w+)", text)) <= variables, path.name
        assert set(re.findall(r"\blocal\.(\w+)", text)) <= constants, path.name


def test_every_variable_and_output_says_what_it_is(parsed):
    for block in (*parsed["variable"], *parsed["output"]):
        for name, body in block.items():
            assert body["description"], name
            assert "sensitive" not in body, "state would hold a secret"


def test_the_bucket_is_versioned_encrypted_and_closed(resources):
    versions = resources["aws_s3_bucket_versioning", "artifacts"]
    assert versions["versioning_configuration"] == [{"status": "Enabled"}]
    encryption = resources["aws_s3_bucket_server_side_encryption_configuration", "artifacts"]
    default = encryption["rule"][0]["apply_server_side_encryption_by_default"]
    assert default == [{"sse_algorithm": "AES256"}]
    closed = resources["aws_s3_bucket_public_access_block", "artifacts"]
    flags = {name: value for name, value in closed.items() if name != "bucket"}
    assert flags == dict.fromkeys(
        (
            "block_public_acls",
            "block_public_policy",
            "ignore_public_acls",
            "restrict_public_buckets",
        ),
        True,
    )
    assert resources["aws_s3_bucket", "artifacts"]["lifecycle"] == [{"prevent_destroy": True}]


def test_the_lifecycle_ends_what_is_left_over_and_keeps_what_is_current(resources):
    rules = {
        r["id"]: r for r in resources["aws_s3_bucket_lifecycle_configuration", "artifacts"]["rule"]
    }
    assert all(rule["status"] == "Enabled" for rule in rules.values())
    assert rules["unfinished-uploads"]["abort_incomplete_multipart_upload"]
    assert rules["overwritten"]["noncurrent_version_expiration"]
    assert not any("expiration" in rule for rule in rules.values()), "nothing current is deleted"


def test_the_bucket_refuses_clear_connections_and_overwritten_manifests(resources):
    text = resources["aws_s3_bucket_policy", "artifacts"]["policy"]
    assert text.count("Deny") == 2
    assert "Allow" not in text
    assert re.search(r'aws:SecureTransport"?\s*[=:]\s*"false', text)
    assert re.search(r'Null\s*[=:]\s*\{\s*"?s3:if-none-match"?\s*[=:]\s*"true', text)


def test_roles_have_the_documents_that_the_local_server_enforces(parsed, resources):
    roles = next(block["roles"] for block in parsed["locals"] if "roles" in block)
    assert {name: tuple(policies) for name, policies in roles.items()} == {
        name: identities.granted(name) for name in keys.IDENTITIES
    }
    policy = resources["aws_iam_policy", "access"]
    assert set(re.findall(r'"(\w+)"', policy["for_each"])) == set(keys.IDENTITIES)
    assert 'templatefile("${local.policies}/${each.key}.json"' in policy["policy"]
    folder = next(block["policies"] for block in parsed["locals"] if "policies" in block)
    assert (FOLDER / folder.removeprefix("${path.module}/")).resolve() == identities.POLICIES


@pytest.mark.parametrize("name", keys.IDENTITIES)
def test_policies_name_actions_and_the_bucket_alone(name):
    document = identities.policy(name, "artifacts")
    assert document["Version"] == "2012-10-17"
    for statement in document["Statement"]:
        actions, places = statement["Action"], statement["Resource"]
        for action in [actions] if isinstance(actions, str) else actions:
            assert re.fullmatch(r"s3:[A-Z]\w+", action), "no wildcard"
        for place in [places] if isinstance(places, str) else places:
            assert re.match(r"arn:aws:s3:::artifacts(/|$)", place)
    text = json.dumps(document)
    assert "$" not in text
    allowed = [s for s in document["Statement"] if s["Effect"] == "Allow"]
    assert "Delete" not in json.dumps(allowed)


def test_gpu_machines_are_optional_and_none_is_kept(resources):
    gpu = resources["aws_eks_node_group", "gpu"]
    assert gpu["count"] == "${length(local.gpu)}"
    assert (gpu["scaling_config"][0]["min_size"], gpu["scaling_config"][0]["desired_size"]) == (
        0,
        0,
    )
    metadata = resources["aws_launch_template", "gpu"]["metadata_options"][0]
    assert metadata == {"http_tokens": "required", "http_put_response_hop_limit": 1}
