"""Compiled functions: the same numbers as the function itself, and the function itself where compiling fails."""

import logging

import pytest
import torch
from test_noise import KNOWN

from emgen.networks.card import resolve
from emgen.networks.runner import CompiledUNet, Networks
from emgen.networks.unet import UNet
from emgen.sampling import philox
from emgen.sampling.compiled import Compiled

pytestmark = [
    # torch's compiler imports modules of its own that warn of themselves
    pytest.mark.filterwarnings("ignore:.*torch:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:.*torch:FutureWarning"),
]


def broken(function, **how):
    def program(*arguments):
        raise RuntimeError("no compiler found\nin some folder")

    return program


class TestWithoutACompiler:
    def test_a_function_runs_as_it_is_and_the_log_says_why(self, monkeypatch, caplog):
        monkeypatch.setattr(torch, "compile", broken)
        double = Compiled(lambda x: 2 * x, "doubling")
        with caplog.at_level(logging.WARNING, "emgen"):
            results = [double(torch.ones(2)) for _ in range(2)]
        assert double.failed and all(torch.equal(r, torch.full((2,), 2.0)) for r in results)
        (record,) = caplog.records
        assert "doubling could not be compiled" in record.message
        assert "RuntimeError: no compiler found" in record.message

    def test_a_fault_of_the_function_itself_is_not_hidden(self, monkeypatch):
        monkeypatch.setattr(torch, "compile", lambda function, **how: function)

        def faulty(x):
            raise ValueError("wrong shape")

        with pytest.raises(ValueError, match="wrong shape"):
            Compiled(faulty, "faulty")(torch.ones(1))

    def test_memory_that_runs_out_is_no_fault_of_the_compiler(self, monkeypatch):
        monkeypatch.setattr(torch, "compile", lambda function, **how: function)

        def large(x):
            raise torch.OutOfMemoryError("full")

        compiled = Compiled(large, "large")
        with pytest.raises(torch.OutOfMemoryError):
            compiled(torch.ones(1))
        assert not compiled.failed

    def test_noise_at_once_is_noise_in_slabs(self, monkeypatch):
        monkeypatch.setattr(philox, "_rows", lambda: philox._noise_of_rows)
        z, y, x = (torch.arange(a, b) for a, b in ((3, 9), (5, 12), (1, 8)))
        for step, key in ((0, (0, 0)), (2**32 - 1, (2**32 - 1, 7))):
            expected = philox._in_slabs(z, y, x, step, key)
            assert torch.equal(philox._at_once(z, y, x, step, key), expected)


class TestACompiledUNet:
    def test_runs_as_it_is_for_one_plane_and_with_gradients(self):
        unet = UNet(4, (8, 8))
        compiled = CompiledUNet(unet, "small")
        x, t = torch.randn(2, 4, 8, 8), torch.full((2,), 0.5)
        assert torch.equal(compiled(x, t), unet(x, t))
        with torch.no_grad():
            assert torch.equal(compiled(x[:1], t[:1]), unet(x[:1], t[:1]))
        assert compiled.program.program is None

    def test_is_what_networks_have_where_it_was_wished(self):
        planned = {"weights": "emgen-small", "sha256": resolve("emgen-small").sha256}
        assert isinstance(Networks(planned, None, compiled=True).prior[0].unet, CompiledUNet)
        assert not isinstance(Networks(planned, None).prior[0].unet, CompiledUNet)


@pytest.mark.slow
class TestWithTheCompilerOfThisMachine:
    @pytest.mark.parametrize(("counter", "key", "words"), KNOWN)
    def test_philox_gives_its_known_words(self, counter, key, words):
        def stacked(*parts):
            return torch.stack(philox.philox(parts[:4], (parts[4], parts[5])))

        numbers = [torch.full((37,), c, dtype=torch.int64) for c in counter]
        numbers += [torch.full((), k, dtype=torch.int64) for k in key]
        compiled = Compiled(stacked, "philox", dynamic=True)
        assert [set(word.tolist()) for word in compiled(*numbers)] == [{word} for word in words]
        assert not compiled.failed

    def test_noise_is_the_same_to_rounding(self):
        z, y, x = (torch.arange(a, b) for a, b in ((3, 9), (5, 12), (1, 8)))
        expected = philox._in_slabs(z, y, x, 2, (5, 1))
        assert torch.allclose(philox._at_once(z, y, x, 2, (5, 1)), expected, rtol=0, atol=5e-7)
        assert not philox._rows().failed

    @torch.no_grad()
    def test_a_network_is_the_same_to_rounding(self):
        torch.manual_seed(0)
        unet = UNet(4, (8, 8))
        torch.nn.init.normal_(unet.tail.weight)
        compiled = CompiledUNet(unet, "small")
        for planes in (2, 3, 5):
            x, t = torch.randn(planes, 4, 8, 8), torch.full((planes,), 0.5)
            assert torch.allclose(compiled(x, t), unet(x, t), atol=1e-4)
        assert not compiled.program.failed
