"""A small LSTM over the last two seasons, and a forest on what it gets wrong.

Hochreiter and Schmidhuber, "Long short-term memory", Neural Computation 1997; the forest on the
residuals after Zhang, "Time series forecasting using a hybrid ARIMA and neural network model",
Neurocomputing 2003. PyTorch (extra `deep`) trains it; numpy asks it, so that who only forecasts
needs no PyTorch.
"""

from importlib.util import find_spec
from typing import Self

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from models.base import Array, ArrayMap, Arrays, Integers, floats, integer, nested, within
from models.forecast.trees import Trees
from models.robust import winsorised_mean

#: Seasons that are read; units that remember; rounds over the windows, and windows at once.
SEASONS, HIDDEN, EPOCHS, BATCH = 2, 24, 30, 64
RATE, DECAY = 0.01, 1e-4
#: Newest windows that are learned from, and the share of them that tell the forest what is wrong.
WINDOWS, HELD_OUT = 1500, 0.3
#: Trees, rows of a leaf at least, share of the columns, moments times steps they are grown on.
TREES, LEAF, SHARE, EXAMPLES = 40, 10, 0.5, 4000
#: Longest season, in rows: an LSTM is asked row by row.
PERIOD_MOST = 48
CLIP, SEED = 8.0, 0


def available() -> bool:
    """Whether it can be trained here: the extra `deep` is installed."""
    return find_spec("torch") is not None


class DeepForecaster:
    """Reads the last two seasons row by row and forecasts the next as a whole.

    Can learn what lags cannot; needs hundreds of rows and a second or more for each series.
    """

    weights_: dict[str, Array]
    unit_: float
    trees_: Trees

    def __init__(self, period: int) -> None:
        self.period = period

    def fit(self, y: Array, first: int) -> Self:
        """Learn from values (n,) whose first has grid index `first`."""
        ahead = self._season
        reach = SEASONS * ahead
        if len(y) < reach + 2 * ahead:  # too short for a window and what follows it
            y = np.concatenate((np.full(reach + 2 * ahead - len(y), y[0]), y))
        both = sliding_window_view(y, reach + ahead)[-WINDOWS:]
        index = first + np.arange(len(y) - len(both) - ahead + 1, len(y) - ahead + 1)
        level = both[:, reach - ahead : reach].mean(axis=1)
        plain = both - level[:, None]
        away = np.abs(plain[:, reach:])
        self.unit_ = max(winsorised_mean(away.ravel()), 1e-9 * (1.0 + float(np.abs(y).max())))
        plain = np.clip(plain / self.unit_, -CLIP, CLIP)
        X, Y = (
            self._inputs(plain[:, :reach], index),
            plain[:, reach:] - plain[:, reach - ahead : reach],
        )
        held = max(1, round(HELD_OUT * len(X)))
        cut = max(1, len(X) - held - ahead + 1)  # what is held out shares no target with the rest
        self.weights_ = _trained(X[:cut], Y[:cut])
        said = self._said(X[-held:])
        every = max(1, said.size // EXAMPLES)
        features = self._features(X[-held:], said, index[-held:])
        miss = (Y[-held:] - said).ravel()
        self.trees_ = Trees.grow(features[::every], miss[::every], TREES, LEAF, SHARE, SEED)
        return self

    def predict(self, windows: Array, index: Integers, horizon: int) -> Array:
        """(k, horizon) values after windows (k, m); beyond a season from its own forecasts."""
        ahead = self._season
        reach = SEASONS * ahead
        past = windows[:, -reach:]
        missing = reach - past.shape[1]
        path = np.concatenate((np.repeat(past[:, :1], missing, axis=1), past), axis=1)
        for begin in range(0, horizon, ahead):
            seen = path[:, -reach:]
            level = seen[:, -ahead:].mean(axis=1)[:, None]
            plain = np.clip((seen - level) / self.unit_, -CLIP, CLIP)
            X = self._inputs(plain, index + begin)
            said = self._said(X)
            wrong = self.trees_.predict(self._features(X, said, index + begin))
            new = np.clip(plain[:, -ahead:] + said + wrong.reshape(said.shape), -CLIP, CLIP)
            path = np.concatenate((path, level + self.unit_ * new), axis=1)
        return path[:, reach : reach + horizon]

    @property
    def _season(self) -> int:
        return self.period if 1 < self.period <= PERIOD_MOST else 24

    def _inputs(self, plain: Array, index: Integers) -> Array:
        """(k, rows, 3) values and the place in the season of each row before grid index (k,)."""
        place = index[:, None] - np.arange(plain.shape[1], 0, -1)
        angle = 2.0 * np.pi / self._season * place
        return np.stack((plain, np.sin(angle), np.cos(angle)), axis=2)

    def _said(self, X: Array) -> Array:
        """(k, season) changes against the last season, by the network alone."""
        w = self.weights_
        hidden = cell = np.zeros((len(X), HIDDEN))
        for row in range(X.shape[1]):
            gates = X[:, row] @ w["in"].T + hidden @ w["hidden"].T + w["bias"]
            enter, keep, new, out = np.split(gates, 4, axis=1)
            cell = _sigmoid(keep) * cell + _sigmoid(enter) * np.tanh(new)
            hidden = _sigmoid(out) * np.tanh(cell)
        return np.asarray(hidden @ w["out"].T + w["out_bias"])

    def _features(self, X: Array, said: Array, index: Integers) -> Array:
        """(k × season, 6) what the forest looks at, for each moment and step."""
        ahead = said.shape[1]
        steps = np.arange(ahead)
        columns = np.broadcast_arrays(
            said,
            X[:, -ahead:, 0],
            X[:, -2 * ahead : -ahead, 0],
            X[:, -1:, 0],
            steps,
            (index[:, None] + steps) % self._season,
        )
        return np.stack(columns, axis=2).reshape(-1, len(columns))

    def to_arrays(self) -> Arrays:
        """Weights of the network, unit, and the trees."""
        return {
            "period": np.array(self.period),
            "unit": np.array(self.unit_),
            **nested("network", dict(self.weights_)),
            **nested("trees", self.trees_.to_arrays()),
        }

    @classmethod
    def from_arrays(cls, arrays: ArrayMap) -> Self:
        """Back from `to_arrays`."""
        model = cls(integer(arrays, "period"))
        model.unit_ = float(floats(arrays, "unit"))
        network = within("network", arrays)
        model.weights_ = {name: floats(network, name) for name in network}
        model.trees_ = Trees.from_arrays(within("trees", arrays))
        return model


def _sigmoid(x: Array) -> Array:
    return np.asarray(0.5 + 0.5 * np.tanh(0.5 * x))


def _trained(X: Array, Y: Array) -> dict[str, Array]:
    """Weights of a network that says Y (k, season) of X (k, rows, columns); the same each time."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(SEED)
            lstm = torch.nn.LSTM(X.shape[2], HIDDEN, batch_first=True)
            head = torch.nn.Linear(HIDDEN, Y.shape[1])
            inputs, target = torch.from_numpy(X).float(), torch.from_numpy(Y).float()
            learned = [*lstm.parameters(), *head.parameters()]
            steps = EPOCHS * -(-len(X) // BATCH)
            optimiser = torch.optim.AdamW(learned, lr=RATE, weight_decay=DECAY)
            rate = torch.optim.lr_scheduler.OneCycleLR(optimiser, RATE, total_steps=steps)
            for _ in range(EPOCHS):
                for batch in torch.randperm(len(X)).split(BATCH):
                    optimiser.zero_grad()
                    _, (hidden, _) = lstm(inputs[batch])
                    # absolute errors: one odd day must not bend the rest
                    loss = torch.nn.functional.l1_loss(head(hidden[-1]), target[batch])
                    loss.backward()
                    torch.nn.utils.clip_grad_norm_(learned, 1.0)
                    optimiser.step()
                    rate.step()
        found = {
            "in": lstm.weight_ih_l0,
            "hidden": lstm.weight_hh_l0,
            "bias": lstm.bias_ih_l0 + lstm.bias_hh_l0,
            "out": head.weight,
            "out_bias": head.bias,
        }
        return {name: w.detach().numpy().astype(np.float64) for name, w in found.items()}
    finally:
        torch.set_num_threads(threads)
