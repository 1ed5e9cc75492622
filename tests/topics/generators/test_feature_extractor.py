"""digits-net and InceptionV3 as FID looks through them."""

import pytest
import torch
from torch.nn import functional as F

from harness.cell import UsageError
from harness.topics.datasets import images
from harness.topics.generators import feature_extractor, fid

REAL = images("digits").train_x[:700]


@pytest.fixture(scope="module")
def net():
    return feature_extractor.load(feature_extractor.DIGITS)


def test_digits_net_knows_the_held_out_digits():
    split = images("digits")
    right = feature_extractor.digits_net().classify(split.test_x).argmax(1) == split.test_y
    assert right.double().mean() > 0.98


@pytest.mark.parametrize("size", [8, 17, 28, 32, 64])
@pytest.mark.parametrize("channels", [1, 3])
def test_digits_net_takes_every_size_and_colour(net, size, channels):
    x = F.interpolate(REAL[:100].float(), (size, size), mode="bilinear").byte()
    found = fid.features(x.expand(-1, channels, -1, -1), net)
    assert found.shape == (100, 64) and found.dtype == torch.float64
    assert torch.allclose(found, fid.features(x, net), atol=1e-4)  # grey as three channels


def test_wrong_weights_are_refused(tmp_path):
    content = bytearray(feature_extractor.WEIGHTS.read_bytes())
    content[len(content) // 2] ^= 1
    path = tmp_path / "digits-net.pt"
    path.write_bytes(content)
    with pytest.raises(UsageError, match="are not the ones shipped: SHA-256"):
        feature_extractor.digits_net(path)
    with pytest.raises(UsageError, match="cannot be read"):
        feature_extractor.digits_net(tmp_path / "none.pt")


def test_an_unknown_extractor_is_named():
    with pytest.raises(UsageError, match="unknown extractor 'digitsnet': choose from digits-net"):
        feature_extractor.load("digitsnet")
    with pytest.raises(UsageError, match="--fid-weights is for inception"):
        feature_extractor.load("digits-net", "file")


@pytest.fixture
def offline(monkeypatch, tmp_path):
    """No cached weights, and any download fails."""

    def refuse(*_, **__):
        raise AssertionError("a download was attempted")

    monkeypatch.setattr("torch.hub.download_url_to_file", refuse)
    monkeypatch.setattr("urllib.request.urlopen", refuse)
    monkeypatch.setattr("torch.hub.get_dir", lambda: str(tmp_path))
    return tmp_path


def test_without_inceptions_weights_digits_net_is_taken(offline):
    feature_extractor._load.cache_clear()
    assert feature_extractor.load().name == feature_extractor.DIGITS
    with pytest.raises(UsageError, match="has no weights at .*: download https://"):
        feature_extractor.load(feature_extractor.INCEPTION)
    with pytest.raises(UsageError, match="has no weights at nowhere.pth"):
        feature_extractor.load(weights="nowhere.pth")


@pytest.mark.parametrize("content", [b"", b"<html>", {"a": torch.zeros(1)}, torch.zeros(1)])
def test_other_files_are_no_inception(offline, content):
    path = offline / "weights.pth"
    path.write_bytes(content) if isinstance(content, bytes) else torch.save(content, path)
    with pytest.raises(UsageError, match="weights.pth holds no .*weights: "):
        feature_extractor.load(weights=path)


def test_inception_is_taken_where_its_weights_are(offline, monkeypatch):
    from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

    path = offline / "checkpoints" / feature_extractor.INCEPTION_FILE
    path.parent.mkdir()
    torch.save({}, path)
    with monkeypatch.context() as patch:  # the architecture, its weights drawn at random
        patch.setattr(FeatureExtractorInceptionV3, "load_state_dict", lambda self, state: None)
        network = FeatureExtractorInceptionV3("x", ["2048"], feature_extractor_weights_path=path)
    torch.save(network.state_dict(), path)
    assert feature_extractor.load(samples=2048).name == feature_extractor.DIGITS
    found = feature_extractor.load(samples=2049)
    assert (found.name, found.size) == (feature_extractor.INCEPTION, 2048)
    assert found(REAL[:2]).shape == (2, 2048)
    with pytest.raises(UsageError, match="700 images are too few"):
        fid.features(REAL, found)
    feature_extractor._load.cache_clear()
    weights = network.state_dict()
    weights["Mixed_5b.branch1x1.bn.running_var"][3] = float("nan")
    torch.save(weights, path)
    with pytest.raises(UsageError, match=f"^{path} holds weights that are not finite: Mixed_5b"):
        feature_extractor.load(weights=path)


def test_loading_moves_no_global_generator():
    feature_extractor._load.cache_clear()
    state = torch.get_rng_state()
    feature_extractor.load(feature_extractor.DIGITS)
    assert torch.equal(torch.get_rng_state(), state)
