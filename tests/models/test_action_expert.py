import pytest
import torch
from scipy import stats
from tiny_policy import policy

from dualvla.models import action_expert


def test_flow_time_follows_the_published_beta_distribution():
    uniform = (torch.arange(20_000) + 0.5) / 20_000
    time = action_expert.flow_time(uniform)
    z = 1 - time.double().numpy() / action_expert.TIME_SCALE
    assert stats.kstest(z, stats.beta(1.5, 1).cdf).statistic < 1e-3


def test_path_starts_in_noise_and_ends_in_actions():
    noise, actions = torch.randn(2, 4, 7), torch.randn(2, 4, 7)
    start, velocity = action_expert.interpolate(noise, actions, torch.zeros(2))
    end, _ = action_expert.interpolate(noise, actions, torch.ones(2))
    torch.testing.assert_close(start, noise)
    torch.testing.assert_close(end, actions + action_expert.SIGMA * noise)
    torch.testing.assert_close(start + velocity, end)


@pytest.mark.parametrize("proprioception", [False, True])
def test_only_a_policy_with_proprioception_reads_the_state(proprioception):
    expert = policy(proprioception=proprioception).expert
    latents, encoded = torch.randn(1, 2, 16), torch.randn(1, 25, 96)
    noise = torch.randn(1, 4, 7)
    one = expert.sample(expert.context(latents, encoded, torch.zeros(1, 7)), noise, 2)
    two = expert.sample(expert.context(latents, encoded, torch.ones(1, 7)), noise, 2)
    assert torch.equal(one, two) != proprioception


def test_a_chunk_is_as_many_euler_steps_along_the_velocity():
    torch.manual_seed(0)
    expert = policy().expert
    for layer in expert.layers:  # it starts as one that does not look at the time
        torch.nn.init.normal_(layer.modulation.weight, std=0.3)
    context = expert.context(torch.randn(2, 2, 16), torch.randn(2, 25, 96), torch.zeros(2, 7))
    noise = torch.randn(2, 3, 4, 7)
    x = noise
    for step in range(5):
        x = x + expert.velocity(context, x, torch.full(x.shape[:2], step / 5)) / 5
    torch.testing.assert_close(expert.samples(context, noise, 5), x)
    at_once = expert.velocity(context, noise, torch.zeros(noise.shape[:2]))
    assert not torch.allclose(at_once, expert.velocity(context, noise, torch.ones(2, 3)))
