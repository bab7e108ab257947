"""Compare losses in a training loop of your own: Lossmith calls `train`, which trains as it always did.

`run` says what to train with. The function returns what the model makes of the validation part and, when it is asked
for, of the test part. From the command line:

    lossmith compare --trainer own_training_loop.py:train --losses symmetric --steps 200
"""

import torch
from sklearn.datasets import load_digits
from torch import nn

import lossmith

images, labels = (torch.tensor(array) for array in load_digits(return_X_y=True))
images = images.float() / 16
wrong = torch.rand(len(labels), generator=torch.Generator().manual_seed(0)) < 0.4
others = torch.randint(1, 10, (len(labels),), generator=torch.Generator().manual_seed(1))
noisy = torch.where(wrong, (labels + others) % 10, labels)  # 40 % of the labels are wrong


def train(run):
    """Train with the loss, learning rate and seed of the run."""
    train_part, valid_part, test_part = map(torch.from_numpy, run.split(labels))
    model = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))
    optimizer = torch.optim.AdamW(model.parameters(), run.lr, weight_decay=run.weight_decay)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, run.steps)
    for step in range(1, run.steps + 1):
        batch = train_part[torch.randint(len(train_part), (128,))]
        optimizer.zero_grad()
        run.loss(model(images[batch]), noisy[batch]).backward()
        optimizer.step()
        schedule.step()
        run.loss.step()  # moves losses with a schedule on; does nothing for others
        if step % 50 == 0:
            with torch.no_grad():
                accuracy = (model(images[valid_part]).argmax(1) == noisy[valid_part]).float().mean()
            run.log(step, accuracy.item())
            if run.should_stop:
                break
    with torch.no_grad():
        valid = model(images[valid_part]), noisy[valid_part]
        test = (model(images[test_part]), labels[test_part]) if run.final else None
    return valid, test


if __name__ == "__main__":
    result = lossmith.compare(train, losses="symmetric", steps=200, lrs=5, workers=2, progress=False)
    for verdict in result.verdicts.values():
        print(verdict)
    print(result.recommendation)
