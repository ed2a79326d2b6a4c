"""Golden values of schedules, optimisers and losses: python training.py > training.json (torch version inside)."""
import json

import torch
import torch.nn.functional as F


def rates(make, steps):
    p = torch.nn.Parameter(torch.zeros(1))
    o = torch.optim.SGD([p], lr=1.0, momentum=0.9)
    s = make(o)
    out = []
    for _ in range(steps):
        out.append(o.param_groups[0]["lr"])
        o.step()
        s.step()
    return out


L = torch.optim.lr_scheduler
out = {"torch": torch.__version__, "schedules": {}, "optimizers": {}, "losses": []}
out["schedules"]["cosine"] = rates(lambda o: L.CosineAnnealingLR(o, T_max=20), 20)
out["schedules"]["cosine_floor"] = rates(lambda o: L.CosineAnnealingLR(o, T_max=20, eta_min=0.1), 20)
out["schedules"]["one_cycle"] = rates(
    lambda o: L.OneCycleLR(o, max_lr=1.0, total_steps=40, pct_start=0.25, div_factor=25.0, final_div_factor=1e5 / 25, cycle_momentum=False), 40
)
out["schedules"]["warmup"] = rates(
    lambda o: L.SequentialLR(o, [L.LinearLR(o, start_factor=1 / 5, end_factor=1.0, total_iters=4), L.CosineAnnealingLR(o, T_max=16)], milestones=[4]), 20
)

START = [0.5, -1.0, 2.0, 0.0]


def trace(make):
    p = torch.nn.Parameter(torch.tensor(START))
    o = make([p])
    for t in range(6):
        # A fixed, bumpy gradient.
        p.grad = torch.tensor([0.3 * (t + 1), -0.2, 0.1 * (-1) ** t, 0.05]) + 0.1 * p.detach()
        o.step()
    return p.tolist()


O = torch.optim
out["optimizers"]["sgd"] = trace(lambda p: O.SGD(p, lr=0.1, momentum=0.9, weight_decay=0.01))
out["optimizers"]["sgd_nesterov"] = trace(lambda p: O.SGD(p, lr=0.1, momentum=0.9, weight_decay=0.01, nesterov=True))
out["optimizers"]["adamw"] = trace(lambda p: O.AdamW(p, lr=0.01, betas=(0.9, 0.99), eps=1e-8, weight_decay=0.1))

logits = torch.tensor([[1.0, 2.0, 3.0], [0.5, 0.0, -1.0], [-2.0, 0.3, 0.1]])
hard = torch.tensor([2, 0, 1])
soft = torch.tensor([[0.2, 0.3, 0.5], [1.0, 0.0, 0.0], [0.1, 0.1, 0.8]])
w = torch.tensor([0.5, 2.0, 1.0])
out["losses"] = {
    "hard": F.cross_entropy(logits, hard).item(),
    "hard_weighted": F.cross_entropy(logits, hard, weight=w).item(),
    "hard_smoothed": F.cross_entropy(logits, hard, label_smoothing=0.1).item(),
    "soft": F.cross_entropy(logits, soft).item(),
    "soft_smoothed": F.cross_entropy(logits, soft, label_smoothing=0.1).item(),
}
print(json.dumps(out))
