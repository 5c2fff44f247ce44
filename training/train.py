"""Train the bundled forecaster: `python -m training.train --state FOLDER`; started again it goes on where it was."""

from __future__ import annotations

import argparse
import os
import time
from dataclasses import dataclass, field
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # a spinning thread takes the core that its partner waits for

import msgspec
import torch

from training import config as configuration
from training import state
from training.batches import Group, stream
from training.config import Config
from training.model import forecast
from training.objective import objective
from training.state import Training


@dataclass
class Threads:
    """Keeps the faster of one and all threads: on a shared machine which it is changes by the minute."""

    most: int
    trial: int = 4  # steps
    every: int = 60  # steps between trials
    seconds: dict[int, float] = field(default_factory=dict)  # of one step, when last tried
    taken: float = 0.0

    def after(self, step: int, seconds: float) -> None:
        """Note how long `step` took and choose for the next one."""
        if self.most == 1:
            return
        place = step % self.every
        trials = [1, self.most]
        if place < self.trial * len(trials):
            self.taken = seconds if place % self.trial == 0 else self.taken + seconds
            if place % self.trial == self.trial - 1:
                self.seconds[torch.get_num_threads()] = self.taken
            following = place + 1
            if following < self.trial * len(trials):
                torch.set_num_threads(trials[following // self.trial])
            else:
                torch.set_num_threads(min(self.seconds, key=lambda n: self.seconds[n]))
        elif place == self.every - 1:
            torch.set_num_threads(trials[0])


def advance(training: Training, groups: list[Group], config: Config) -> float:
    """One step of both optimizers and the average; returns the mean loss of a series."""
    settings = config.optimizer
    factor = config.schedule.rate(training.step, training.seconds)
    training.muon.param_groups[0]["lr"] = settings.muon_rate * factor
    training.adam.param_groups[0]["lr"] = settings.adam_rate * factor
    model = training.model
    count = sum(len(context) for context, _ in groups)
    total = 0.0
    for context, target in groups:
        context, target = context.to(model.device), target.to(model.device)
        values, mean, spread = forecast(model, context)
        loss = objective(values, (target - mean) / spread, model.quantiles, settings.spread_floor) / count
        torch.autograd.backward(loss)
        total += loss.item()
    trained = training.parameters()
    torch.nn.utils.clip_grad_norm_(trained.values(), settings.clip_norm)
    training.muon.step()
    training.adam.step()
    training.muon.zero_grad()
    training.adam.zero_grad()
    training.step += 1
    decay = min(settings.average_decay, training.step / (training.step + 10))
    for name, p in trained.items():
        training.average[name].lerp_(p.detach(), 1 - decay)
    return total


def train(training: Training, config: Config, folder: Path, threads: int) -> None:
    """Train to the end of the schedule's budget, saving to `folder` and printing progress on the way."""
    schedule = config.schedule
    pool = Threads(threads)
    saved, losses, series, since = training.seconds, 0.0, 0, time.monotonic()
    last = since
    for groups in stream(config, training.step):
        before = time.monotonic()
        losses += advance(training, groups, config)
        series += sum(len(context) for context, _ in groups)
        pool.after(training.step - 1, time.monotonic() - before)
        last, training.seconds = time.monotonic(), training.seconds + time.monotonic() - last
        if training.step % 50 == 0:
            elapsed = time.monotonic() - since
            print(
                f"step {training.step}  {training.seconds / 60:.1f} min  "
                f"{100 * schedule.progress(training.step, training.seconds):.0f}%  loss {losses / 50:.4f}  "
                f"rate {schedule.rate(training.step, training.seconds):.3f}  {series / elapsed:.0f} series/s  "
                f"{torch.get_num_threads()} threads",
                flush=True,
            )
            losses, series, since = 0.0, 0, time.monotonic()
        done = schedule.progress(training.step, training.seconds) >= 1
        if done or training.seconds - saved > schedule.save_minutes * 60:
            state.save(training, folder)
            saved = training.seconds
        if done:
            break


def main() -> None:
    """Read the command line and train."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--config", type=Path, default=configuration.DEFAULT)
    parser.add_argument("--state", type=Path, default=Path("training/state"), help="folder of the resumable state")
    parser.add_argument("--minutes", type=float, help="instead of the configuration's budget")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1, help="at most")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    options = parser.parse_args()
    config = configuration.load(options.config)
    if options.minutes:
        schedule = msgspec.structs.replace(config.schedule, minutes=options.minutes)
        config = msgspec.structs.replace(config, schedule=schedule)
    torch.set_num_threads(1 if options.device == "cpu" else options.threads)
    training = state.begin(config, options.device)
    if (options.state / state.FILE).exists():
        state.resume(training, options.state)
    train(training, config, options.state, options.threads if options.device == "cpu" else 1)


if __name__ == "__main__":
    main()
