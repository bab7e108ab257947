"""Swap the loss of a training loop: handwritten digits, 40 % of whose training labels are wrong.

A loss is exchanged in one line. The learning rate has to follow, so each loss is trained at several rates, and the one
with the best validation accuracy is kept. Validation labels are as noisy as training labels; test labels are clean.
"""

import torch
from sklearn.datasets import load_digits
from torch import nn

import lossmith

images, labels = (torch.tensor(array) for array in load_digits(return_X_y=True))
images = images.float() / 16
order = torch.randperm(len(images), generator=torch.Generator().manual_seed(0))
train, valid, test = order.split([1000, 300, 497])

noisy = labels.clone()
wrong = torch.rand(len(labels), generator=torch.Generator().manual_seed(1)) < 0.4
noisy[wrong] = (labels[wrong] + torch.randint(1, 10, (int(wrong.sum()),))) % 10


def fit(loss: nn.Module, lr: float) -> nn.Module:
    """Train a small network with the loss."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 10))
    optimizer = torch.optim.Adam(model.parameters(), lr)
    for _ in range(400):
        batch = train[torch.randint(len(train), (64,))]
        optimizer.zero_grad()
        loss(model(images[batch]), noisy[batch]).backward()
        optimizer.step()
    return model


def accuracy(model: nn.Module, part: torch.Tensor, truth: torch.Tensor) -> float:
    """The share of right predictions."""
    return (model(images[part]).argmax(1) == truth[part]).float().mean().item()


print("loss           learning rate   test accuracy")
for name in ("cross_entropy", "gce:q=0.7", "symmetric", "rooted:k=3"):
    loss = lossmith.create(name)  # instead of nn.CrossEntropyLoss()
    models = {lr: fit(loss, lr) for lr in (0.0003, 0.001, 0.003, 0.01)}
    best = max(models, key=lambda lr: accuracy(models[lr], valid, noisy))
    print(f"{name:<14} {best:>13g} {accuracy(models[best], test, labels):>15.1%}")
print("One training proves little: `lossmith compare digits --label-noise 0.4` repeats this and gives intervals.")
