import io
import zipfile

import numpy as np
import pytest

from models import artifact
from models.artifact import ArtifactError

KEY = b"k" * 32
ARRAYS = {"a/b": np.arange(6.0).reshape(2, 3), "flag": np.array(True), "text": np.array("ridge")}


def packed(**changed):
    options = {"kind": "trial", "arrays": ARRAYS, "manifest": {"rows": 6}, "key": KEY}
    return artifact.pack(**{**options, **changed})


def test_comes_back_as_it_was(tmp_path):
    path = tmp_path / "new" / "model.npz"
    artifact.write(path, packed(bound_to="acme/1"))
    arrays, manifest = artifact.unpack(artifact.read(path), "trial", KEY, "acme/1")
    assert manifest["rows"] == 6
    assert manifest["kind"] == "trial"
    assert manifest["format"] == artifact.FORMAT
    assert manifest["sha256"] == artifact.content_hash(ARRAYS)
    assert set(arrays) == set(ARRAYS)
    assert all(np.array_equal(arrays[name], ARRAYS[name]) for name in ARRAYS)
    assert [p.name for p in path.parent.iterdir()] == ["model.npz"]


def test_plain_numpy_opens_it(tmp_path):
    path = tmp_path / "model.npz"
    artifact.write(path, packed())
    with np.load(path, allow_pickle=False) as entries:
        assert np.array_equal(entries["a/b"], ARRAYS["a/b"])


@pytest.mark.parametrize("place", [0, 50, 300, -40, -1])
def test_a_changed_byte_is_noticed(place):
    raw = bytearray(packed())
    raw[place] ^= 1
    with pytest.raises(ArtifactError, match="signature"):
        artifact.unpack(bytes(raw), "trial", KEY)


@pytest.mark.parametrize("keep", [0, 10, 31, 32, 100, -1])
def test_a_truncated_file_is_refused(keep):
    with pytest.raises(ArtifactError):
        artifact.unpack(packed()[:keep], "trial", KEY)


def test_foreign_files_are_refused():
    with pytest.raises(ArtifactError, match="signature"):
        artifact.unpack(packed(), "trial", b"x" * 32)
    with pytest.raises(ArtifactError, match="signature"):
        artifact.unpack(packed(bound_to="acme/1"), "trial", KEY, "acme/2")
    with pytest.raises(ArtifactError, match="kind"):
        artifact.unpack(packed(), "other", KEY)


def test_another_format_is_refused(monkeypatch):
    raw = packed()
    monkeypatch.setattr(artifact, "FORMAT", 99)
    with pytest.raises(ArtifactError, match="format 1"):
        artifact.unpack(raw, "trial", KEY)


def signed(body):
    return body + artifact._sign(body, KEY, "")


def test_signed_nonsense_is_refused_too():
    for body in (b"", b"no zip", b"PK\x05\x06" + bytes(18)):
        with pytest.raises(ArtifactError):
            artifact.unpack(signed(body), "trial", KEY)


def test_pickles_are_never_loaded():
    buffer = io.BytesIO()
    np.savez(buffer, evil=np.array([print], object))
    with pytest.raises(ArtifactError, match="not a model file"):
        artifact.unpack(signed(buffer.getvalue()), "trial", KEY)


def test_content_that_is_not_the_manifest_s_is_refused():
    body = io.BytesIO(packed()[: -artifact.SIGNATURE_BYTES])
    other = io.BytesIO()
    np.save(other, np.zeros(3))
    with zipfile.ZipFile(body, "a") as archive:
        archive.writestr("extra.npy", other.getvalue())
    with pytest.raises(ArtifactError, match="hash"):
        artifact.unpack(signed(body.getvalue()), "trial", KEY)


def test_a_missing_file_says_so(tmp_path):
    with pytest.raises(ArtifactError, match="No such file"):
        artifact.read(tmp_path / "none.npz")


def test_a_failed_write_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "model.npz"
    artifact.write(path, b"old")
    monkeypatch.setattr("os.fsync", lambda _: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(OSError, match="disk full"):
        artifact.write(path, b"new")
    assert path.read_bytes() == b"old"
    assert len(list(tmp_path.iterdir())) == 1
