from __future__ import annotations

import pytest
import torch
from torch import fx, nn

from tests.thinned import thinned
from ticketguard.errors import UsageError
from ticketguard.models import MODELS, build, fitted, input_shape, outline, prunable
from ticketguard.tickets import Architecture

# Published sizes: He et al. 2016 (option A), and the usual CIFAR forms of the others without convolution biases.
PARAMETERS = {
    "convnet": 32 * 9 + 18_432 + 73_728 + 2 * (32 + 64 + 128) + 1_290,
    "mlp": 64 * 256 + 256 + 256 * 256 + 256 + 2_570,
    "mobilenet": 3_217_226,
    "resnet18": 11_173_962,
    "resnet20": 269_722,
    "resnet50": 23_520_842,
    "resnet56": 853_018,
    "vgg16_bn": 14_724_042,
}
PRUNABLE_LAYERS = {
    "convnet": 2,
    "mlp": 1,
    "mobilenet": 26,
    "resnet18": 19,
    "resnet20": 18,
    "resnet50": 52,
    "resnet56": 54,
}


@pytest.mark.parametrize("name", thinned(MODELS, fast=["resnet20", "convnet", "mlp"]))
def test_every_network_has_its_published_size_and_can_be_traced(name):
    architecture = Architecture(name=name)
    module = build(architecture).eval()
    assert sum(parameter.numel() for parameter in module.parameters()) == PARAMETERS[name]
    images = torch.randn(2, *input_shape(architecture), generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        logits = module(images)
        assert logits.shape == (2, 10)
        torch.testing.assert_close(fx.symbolic_trace(module)(images), logits)


def count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


@pytest.mark.parametrize(
    ("name", "classes", "millions", "places"),
    [
        # He et al. 2016, "Deep residual learning for image recognition", Table 6: CIFAR-10.
        ("resnet20", 10, 0.27, 2),
        ("resnet56", 10, 0.85, 2),
        # Howard et al. 2017, "MobileNets", Table 8: 1.0 MobileNet-224 on ImageNet; its stem has the same weights at any stride.
        ("mobilenet", 1000, 4.2, 1),
    ],
)
def test_sizes_of_the_networks_own_papers(name, classes, millions, places):
    size = count(build(Architecture(name=name, arguments={"classes": classes})))
    assert round(size / 1e6, places) == millions


@pytest.mark.parametrize(
    ("name", "published", "stem", "width"),
    [("resnet18", 11_689_512, 7 * 7 * 3 * 64, 512), ("resnet50", 25_557_032, 7 * 7 * 3 * 64, 2048)],
)
def test_residual_networks_differ_from_their_imagenet_forms_in_the_stem_alone(name, published, stem, width):
    """torchvision's `num_params` of ResNet18_Weights and ResNet50_Weights, from pytorch.org/vision/stable/models."""
    module = build(Architecture(name=name, arguments={"classes": 1000}))
    assert count(module) - module.conv1.weight.numel() + stem == published
    assert module.fc.in_features == width


def test_vgg_has_the_convolutions_of_its_imagenet_form():
    """torchvision's `num_params` of VGG16_BN_Weights, without its three linear layers and the biases before batch norm."""
    linear = sum(inputs * outputs + outputs for inputs, outputs in ((512 * 7 * 7, 4096), (4096, 4096), (4096, 1000)))
    module = build(Architecture(name="vgg16_bn"))
    biases = sum(layer.out_channels for layer in module.modules() if isinstance(layer, nn.Conv2d))
    assert count(module.features) + biases == 138_365_992 - linear


@pytest.mark.parametrize(("name", "layers"), [("resnet18", 18), ("resnet20", 20), ("resnet50", 50), ("resnet56", 56)])
def test_residual_networks_have_as_many_layers_as_their_name_says(name, layers):
    """Layers with weights on the main path: convolutions, but not those of shortcuts, and the classifier."""
    module = build(Architecture(name=name))
    kinds = [path for path, layer in module.named_modules() if isinstance(layer, nn.Conv2d | nn.Linear)]
    assert sum("shortcut" not in path for path in kinds) == layers


@pytest.mark.parametrize("name", PRUNABLE_LAYERS)
def test_pruning_spares_the_first_layer_and_the_classifier(name):
    module = build(Architecture(name=name))
    names = prunable(module)
    parameters = dict(module.named_parameters())
    assert len(names) == PRUNABLE_LAYERS[name]
    assert all(parameters[entry].ndim >= 2 for entry in names)
    assert len(prunable(module, first=True)) == len(prunable(module, classifier=True)) == len(names) + 1


def test_convnet_has_room_for_a_signature():
    module = build(Architecture(name="convnet"))
    sizes = [dict(module.named_parameters())[name].numel() for name in prunable(module)]
    assert sum(sizes) == 92_160


def test_shared_weights_count_once():
    module = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 2))
    module[2].weight = module[1].weight
    assert prunable(module) == ["1.weight"]


def test_a_network_without_inner_layers_is_refused():
    with pytest.raises(UsageError, match="no prunable layer"):
        prunable(nn.Sequential(nn.Linear(4, 2)))


def test_an_outline_has_every_shape_and_no_values():
    for name in MODELS:
        bare, whole = outline(Architecture(name=name)), build(Architecture(name=name))
        shapes = {key: tuple(value.shape) for key, value in bare.state_dict().items()}
        assert shapes == {key: tuple(value.shape) for key, value in whole.state_dict().items()}
        assert all(value.is_meta for value in bare.state_dict().values())


def test_architecture_is_fitted_to_the_data():
    architecture = fitted("resnet20", shape=(1, 28, 28), classes=7)
    assert architecture.arguments == {"in_channels": 1, "image_size": 28, "classes": 7}
    assert input_shape(architecture) == (1, 28, 28)
    assert build(architecture)(torch.zeros(2, 1, 28, 28)).shape == (2, 7)
    assert fitted("mlp", shape=(1, 8, 8), classes=10, arguments={"width": 32}).arguments["width"] == 32


OWN_MODULE = """
import torch
class Net(torch.nn.Module):
    def __init__(self, classes=3):
        super().__init__()
        self.fc = torch.nn.Linear(4, classes)
def make(classes: int = 3) -> torch.nn.Module:
    return Net(classes)
def unannotated(classes=3):
    return Net(classes)
def text() -> str:
    return "not a network"
"""


@pytest.fixture
def own_module(tmp_path, monkeypatch):
    (tmp_path / "somebodys_nets.py").write_text(OWN_MODULE)
    monkeypatch.syspath_prepend(tmp_path)


@pytest.mark.usefixtures("own_module")
def test_networks_by_import_path():
    for name in ("somebodys_nets:Net", "somebodys_nets:make"):
        module = build(fitted(name, shape=(3, 8, 8), classes=5))
        assert module.fc.out_features == 5
        # Somebody else's code may look at values: it is built.
        assert outline(fitted(name, shape=(3, 8, 8), classes=5)).fc.weight.device.type == "cpu"
    with pytest.raises(UsageError, match="in_channels"):
        input_shape(Architecture(name="somebodys_nets:Net"))


@pytest.mark.usefixtures("own_module")
@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        (None, {}, "does not say its architecture"),
        ("resnet1000", {}, "unknown architecture"),
        ("no.such.module:Net", {}, "cannot be imported"),
        ("somebodys_nets:Missing", {}, "cannot be imported"),
        (":Net", {}, "cannot be imported"),
        ("somebodys_nets:text", {}, "not a torch.nn.Module class"),
        ("somebodys_nets:unannotated", {}, "annotated"),
        ("os:system", {"command": "exit 1"}, "not a torch.nn.Module class"),
        ("subprocess:run", {"args": "true"}, "not a torch.nn.Module class"),
        ("builtins:eval", {}, "not a torch.nn.Module class"),
        ("resnet20", {"colour": 1}, "arguments"),
    ],
)
def test_what_is_no_network_is_refused_before_it_is_called(name, arguments, message):
    with pytest.raises(UsageError, match=message):
        build(Architecture(name=name, arguments=arguments))
