//! The loop itself.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use data::{Batch, Loader, LoaderOptions, sampler};
use graph::{Tensor, Weights};

use super::checkpoint::{Checkpoint, State, identity};
use super::kept::Kept;
use super::loss::cross_entropy;
use super::targets::TargetMaker;
use super::trainer::Trainer;
use super::validate::{Judged, judge};
use super::{EpochRecord, FitEvent, FitOptions, FitOutcome, FitTask, Fitted, SamplerKind};
use crate::LearnError;
use crate::network::NoiseKey;
use crate::optim::{self, Gradients, Group, Optimizer};

/// A fit in progress.
pub(super) struct Run<'a> {
    task: FitTask,
    options: &'a FitOptions,
    targets: TargetMaker,
    trainer: Trainer,
    optimizer: Optimizer,
    /// Since the last update, each batch's times its weight.
    gradients: Gradients,
    /// The weight of these batches: 1 for each whole one whose samples count alike.
    weight: f64,
    groups: BTreeMap<String, Group>,
    /// Where the first stages are frozen and nothing is augmented.
    kept: Option<Kept>,
    average: Weights,
    best: Weights,
    state: State,
    loader: Loader,
    validation: Option<Loader>,
    /// Batches an epoch.
    steps: usize,
    identity: String,
    started: Instant,
    steps_done: usize,
    validation_seconds: f64,
}

/// Whether to go on.
#[derive(PartialEq)]
enum Flow {
    On,
    Stopped,
}

impl<'a> Run<'a> {
    pub(super) fn new(mut task: FitTask, options: &'a FitOptions) -> Result<Self, LearnError> {
        options.check().map_err(|(field, problem)| LearnError::Recipe { field: field.into(), problem })?;
        check_classes(&task)?;
        let targets = TargetMaker::new(&task.dataset, &task.train, options)?;
        let identity = identity_of(&task, options)?;
        let trainer = Trainer::new(&task.graph, std::mem::take(&mut task.weights), options, task.device)?;
        let loading = LoaderOptions { batch_size: options.batch_size, seed: options.seed, ..task.loading.clone() };
        let validation = match task.validation.is_empty() {
            true => None,
            false => Some(Loader::new(Arc::clone(&task.dataset), LoaderOptions { augment: None, ..loading.clone() })?),
        };
        let augmented = loading.augment.as_ref().is_some_and(|augment| !augment.is_none());
        let loader = Loader::new(Arc::clone(&task.dataset), loading)?;
        let mut run = Self {
            targets,
            optimizer: Optimizer::new(options),
            gradients: Gradients::default(),
            weight: 0.0,
            groups: groups(&trainer, options),
            kept: (trainer.has_prefix() && !augmented).then(Kept::default),
            average: if options.ema > 0.0 { trainer.network().weights().clone() } else { Weights::new() },
            trainer,
            best: Weights::new(),
            state: State::default(),
            loader,
            validation,
            steps: 0,
            identity,
            started: Instant::now(),
            steps_done: 0,
            validation_seconds: 0.0,
            options,
            task,
        };
        run.steps = run.order(0).len().div_ceil(options.batch_size);
        run.resume()?;
        Ok(run)
    }

    pub(super) fn run(mut self, observe: &mut dyn FnMut(FitEvent<'_>), stop: &AtomicBool) -> Result<FitOutcome, LearnError> {
        let mut stopped_early = self.out_of_patience();
        while self.state.epoch < self.options.epochs && !stopped_early {
            if self.epoch(observe, stop)? == Flow::Stopped || self.close_epoch(observe, stop)? == Flow::Stopped {
                self.save()?;
                return Ok(FitOutcome::Interrupted { epoch: self.state.epoch, step: self.state.step });
            }
            self.save()?;
            stopped_early = self.out_of_patience();
        }
        Ok(FitOutcome::Finished(self.finish(stopped_early)))
    }

    fn out_of_patience(&self) -> bool {
        let patience = self.options.early_stopping.patience;
        patience > 0 && self.state.waited >= patience && self.state.epoch < self.options.epochs
    }

    /// The samples of an epoch, in order, without a small last batch.
    fn order(&self, epoch: usize) -> Vec<usize> {
        let (train, seed, epoch) = (&self.task.train, self.options.seed, epoch as u64);
        let mut order = match self.options.sampler {
            SamplerKind::Shuffle => sampler::shuffled(train, seed, epoch),
            SamplerKind::Oversample => {
                let label = |&i: &usize| self.task.dataset.samples[i].target.as_ref().and_then(data::Target::argmax).unwrap_or(0);
                sampler::oversampled(train, &train.iter().map(label).collect::<Vec<_>>(), seed, epoch)
            }
        };
        let size = self.options.batch_size;
        if self.options.drop_last && order.len() > size {
            order.truncate(order.len() / size * size);
        }
        order
    }

    /// The rest of the epoch's batches.
    fn epoch(&mut self, observe: &mut dyn FnMut(FitEvent<'_>), stop: &AtomicBool) -> Result<Flow, LearnError> {
        let order = self.order(self.state.epoch);
        let rest = &order[(self.state.step * self.options.batch_size).min(order.len())..];
        let batches: Vec<&[usize]> = rest.chunks(self.options.batch_size).collect();
        let from_memory = self.kept.as_ref().is_some_and(|kept| kept.has_all(rest, &self.state.failed));
        let mut loaded = (!from_memory).then(|| self.loader.epoch(rest, self.state.epoch as u64));
        let mut clock = Instant::now();
        for samples in batches {
            let last = self.state.step + 1 == self.steps;
            let (indices, features) = match &mut loaded {
                Some(loaded) => {
                    let asked = Instant::now();
                    let Some(batch) = loaded.next() else { break };
                    self.state.data_seconds += asked.elapsed().as_secs_f64();
                    self.features(batch)?
                }
                None => match &self.kept {
                    Some(kept) => kept.batch(samples),
                    None => break,
                },
            };
            self.learn(&indices, &features)?;
            self.state.step += 1;
            self.steps_done += 1;
            let boundary = last || self.state.step.is_multiple_of(self.options.accumulate);
            if boundary {
                self.update()?;
            }
            self.state.seconds += clock.elapsed().as_secs_f64();
            clock = Instant::now();
            observe(self.step_event());
            if boundary && stop.load(Ordering::Relaxed) {
                return Ok(Flow::Stopped);
            }
        }
        Ok(Flow::On)
    }

    /// What enters the trained part, of the samples of a batch that could be read.
    fn features(&mut self, batch: Batch) -> Result<(Vec<usize>, Tensor), LearnError> {
        for (index, reason) in batch.failed {
            if !self.state.failed.iter().any(|(i, _)| *i == index) {
                self.state.failed.push((index, reason));
            }
        }
        let images = Tensor { shape: batch.shape.to_vec(), data: batch.images };
        if batch.indices.is_empty() {
            return Ok((batch.indices, images));
        }
        let features = self.trainer.features(images)?;
        if let Some(kept) = &mut self.kept {
            kept.put(&batch.indices, &features);
        }
        Ok((batch.indices, features))
    }

    /// Forward and back on one batch; its gradients are added to those since the last update.
    fn learn(&mut self, indices: &[usize], features: &Tensor) -> Result<(), LearnError> {
        if indices.is_empty() {
            return Ok(());
        }
        let targets = self.targets.of(&self.task.dataset, indices);
        let key = NoiseKey { seed: self.options.seed, epoch: self.state.epoch as u64, step: self.state.step as u64 };
        // Batches that share an update count as their samples do; one by itself needs no weight.
        let weight = if self.options.accumulate > 1 { targets.divisor() / self.options.batch_size as f64 } else { 1.0 };
        let loss = self.trainer.step(features, key, &mut self.gradients, |logits| {
            let (loss, mut gradient) = cross_entropy(&logits.data, &targets);
            gradient.iter_mut().for_each(|g| *g *= weight as f32);
            (loss, gradient)
        })?;
        self.weight += weight;
        if !loss.is_finite() {
            return Err(self.diverged("loss", loss));
        }
        self.state.loss_sum += loss * targets.divisor();
        self.state.loss_weight += targets.divisor();
        self.state.images += indices.len();
        Ok(())
    }

    fn diverged(&self, what: &str, value: f64) -> LearnError {
        LearnError::Training(format!(
            "the {what} became {value} in epoch {} at step {} of {}; lower fit.lr (now {}), set fit.clip = 1, or add fit.warmup_epochs",
            self.state.epoch + 1,
            self.state.step + 1,
            self.steps,
            self.options.lr
        ))
    }

    /// Learning rate of the next update.
    fn learning_rate(&self) -> f64 {
        let each = self.steps.div_ceil(self.options.accumulate);
        let warmup = (self.options.warmup_epochs * each as f64).round() as usize;
        self.options.lr * self.options.schedule().factor(self.state.updates as usize, each * self.options.epochs, warmup)
    }

    fn update(&mut self) -> Result<(), LearnError> {
        let lr = self.learning_rate();
        self.state.updates += 1;
        if self.gradients.batches == 0 {
            return Ok(());
        }
        self.gradients.clear();
        let (updates, options, weight) = (self.state.updates, self.options, std::mem::take(&mut self.weight));
        let Self { groups, gradients, optimizer, average, trainer, .. } = self;
        let gradients = &mut gradients.values;
        let norm = trainer.network_mut().change(|weights| {
            if options.accumulate > 1 {
                optim::scale(gradients, (1.0 / weight) as f32);
            }
            let norm = if options.clip > 0.0 { optim::clip(gradients, options.clip) } else { 0.0 };
            if norm.is_finite() {
                let group = |name: &str| groups.get(name).copied().unwrap_or(Group { lr: 1.0, decay: false, l1: false });
                optimizer.updates = updates - 1;
                optimizer.update(weights, gradients, lr, group);
                if options.ema > 0.0 {
                    optim::average(average, weights, options.ema, updates);
                }
            }
            norm
        });
        if norm.is_finite() { Ok(()) } else { Err(self.diverged("norm of the gradient", norm)) }
    }

    /// The weights that are judged and kept: averaged where EMA is on.
    fn current(&self) -> &Weights {
        if self.options.ema > 0.0 { &self.average } else { self.trainer.network().weights() }
    }

    /// Validates, records and decides whether this epoch is the best.
    fn close_epoch(&mut self, observe: &mut dyn FnMut(FitEvent<'_>), stop: &AtomicBool) -> Result<Flow, LearnError> {
        if self.state.images == 0 {
            let reason = self.state.failed.first().map_or_else(String::new, |(i, r)| format!("; the first: sample {i}: {r}"));
            return Err(LearnError::Data(format!("none of the {} training images could be read{reason}", self.task.train.len())));
        }
        let clock = Instant::now();
        let judged = match &self.validation {
            None => None,
            Some(loader) => {
                let network = self.trainer.inference(self.current())?;
                let metric = self.options.early_stopping.metric;
                match judge(network, &self.task.dataset, loader, &self.task.validation, metric, stop)? {
                    None => return Ok(Flow::Stopped),
                    Some(judged) => Some(judged),
                }
            }
        };
        self.validation_seconds = clock.elapsed().as_secs_f64();
        let record = self.record(judged.as_ref());
        let best = self.is_best(&record);
        if best {
            self.state.best = Some((self.state.epoch, record.metric_value));
            self.state.waited = 0;
            if self.validation.is_some() && self.options.early_stopping.restore_best {
                self.best = self.current().clone();
            }
        } else {
            self.state.waited += 1;
        }
        observe(FitEvent::Epoch { record: &record, best });
        self.state.history.push(record);
        self.state.epoch += 1;
        self.state.step = 0;
        (self.state.loss_sum, self.state.loss_weight, self.state.images) = (0.0, 0.0, 0);
        (self.state.seconds, self.state.data_seconds) = (0.0, 0.0);
        Ok(Flow::On)
    }

    fn is_best(&self, record: &EpochRecord) -> bool {
        match (&self.state.best, record.metric_value) {
            (None, _) => true,
            (Some(_), None) => self.validation.is_none(),
            (Some((_, None)), Some(_)) => true,
            (Some((_, Some(old))), Some(new)) => self.options.early_stopping.metric.improves(new, *old),
        }
    }

    fn record(&self, judged: Option<&Judged>) -> EpochRecord {
        EpochRecord {
            epoch: self.state.epoch,
            train_loss: self.state.loss_sum / self.state.loss_weight.max(f64::MIN_POSITIVE),
            validation_loss: judged.map(|j| j.loss).filter(|l| l.is_finite()),
            metric: self.options.early_stopping.metric.name().into(),
            metric_value: judged.and_then(|j| j.metric),
            learning_rate: self.learning_rate(),
            images_per_second: self.state.images as f64 / self.state.seconds.max(1e-9),
            seconds: self.state.seconds + self.validation_seconds,
            data_seconds: self.state.data_seconds,
        }
    }

    fn step_event(&self) -> FitEvent<'static> {
        let epochs_left = self.options.epochs.saturating_sub(self.state.epoch) as f64;
        let steps_left = epochs_left * self.steps as f64 - self.state.step as f64;
        let spent = self.started.elapsed().as_secs_f64() / self.steps_done.max(1) as f64;
        FitEvent::Step {
            epoch: self.state.epoch,
            epochs: self.options.epochs,
            step: self.state.step,
            steps: self.steps,
            loss: self.state.loss_sum / self.state.loss_weight.max(f64::MIN_POSITIVE),
            learning_rate: self.learning_rate(),
            images_per_second: self.state.images as f64 / self.state.seconds.max(1e-9),
            eta: Duration::from_secs_f64((steps_left * spent).max(0.0)),
        }
    }

    fn save(&self) -> Result<(), LearnError> {
        let Some(path) = &self.task.checkpoint else { return Ok(()) };
        let checkpoint = Checkpoint {
            state: self.state.clone(),
            weights: self.trainer.network().weights().clone(),
            average: self.average.clone(),
            best: self.best.clone(),
            first: self.optimizer.first.clone(),
            second: self.optimizer.second.clone(),
        };
        checkpoint.save(path, &self.identity)
    }

    fn resume(&mut self) -> Result<(), LearnError> {
        let Some(path) = self.task.checkpoint.as_ref().filter(|path| self.task.resume && path.exists()) else { return Ok(()) };
        let checkpoint = Checkpoint::load(path, &self.identity)?;
        self.optimizer.first = checkpoint.first;
        self.optimizer.second = checkpoint.second;
        self.state = checkpoint.state;
        self.average = checkpoint.average;
        self.best = checkpoint.best;
        self.trainer.network_mut().change(|weights| *weights = checkpoint.weights);
        Ok(())
    }

    fn finish(self, stopped_early: bool) -> Fitted {
        let trained = if self.best.is_empty() { self.current() } else { &self.best };
        let (best_epoch, best_metric) = match (self.best.is_empty(), self.state.best) {
            (false, Some((epoch, metric))) => (epoch, metric),
            _ => (self.state.epoch.saturating_sub(1), self.state.history.last().and_then(|r| r.metric_value)),
        };
        Fitted {
            weights: self.trainer.merged(trained),
            history: self.state.history,
            best_epoch,
            best_metric,
            stopped_early,
            failed: self.state.failed,
        }
    }
}

fn check_classes(task: &FitTask) -> Result<(), LearnError> {
    let (classes, logits) = (task.dataset.classes.len(), task.graph.num_classes());
    if classes != logits {
        return Err(LearnError::Data(format!("the network has {logits} outputs, the data set {classes} classes; build it with {classes}")));
    }
    if let Some(&i) = task.train.iter().chain(&task.validation).find(|&&i| i >= task.dataset.samples.len()) {
        return Err(LearnError::Data(format!("sample {i} of {}", task.dataset.samples.len())));
    }
    Ok(())
}

/// How each trained parameter is updated.
pub(crate) fn groups(trainer: &Trainer, options: &FitOptions) -> BTreeMap<String, Group> {
    let network = trainer.network();
    let stages = &network.graph().stages;
    let rate = |stage: usize| stages.get(stage).and_then(|name| options.stage_lr.get(name)).copied().unwrap_or(1.0);
    network.trained().map(|(name, role, stage)| (name.to_string(), Group::of(role, rate(stage), options))).collect()
}

/// Whatever two runs must share for one to continue the other's checkpoint.
fn identity_of(task: &FitTask, options: &FitOptions) -> Result<String, LearnError> {
    let json = |what: Result<String, serde_json::Error>| what.map_err(|e| LearnError::Training(e.to_string()));
    let mut samples = blake3::Hasher::new();
    for (part, indices) in [("train", &task.train), ("validation", &task.validation)] {
        samples.update(part.as_bytes());
        for sample in indices.iter().filter_map(|&i| task.dataset.samples.get(i)) {
            samples.update(sample.id.as_bytes());
            samples.update(json(serde_json::to_string(&(&sample.target, sample.weight)))?.as_bytes());
        }
    }
    let mut weights = blake3::Hasher::new();
    for (name, tensor) in &task.weights {
        weights.update(name.as_bytes());
        for chunk in tensor.data.chunks(1024) {
            weights.update(&chunk.iter().flat_map(|x| x.to_le_bytes()).collect::<Vec<u8>>());
        }
    }
    Ok(identity(&BTreeMap::from([
        ("graph", json(serde_json::to_string(&task.graph))?),
        ("options", json(serde_json::to_string(options))?),
        ("samples", samples.finalize().to_hex().to_string()),
        ("weights", weights.finalize().to_hex().to_string()),
        ("classes", json(serde_json::to_string(task.dataset.classes.names()))?),
        ("preprocess", task.loading.preprocess.fingerprint()),
        ("augment", json(serde_json::to_string(&task.loading.augment))?),
    ])))
}
