//! The command line.

use std::path::PathBuf;

use clap::{Args as ClapArgs, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;

/// From a folder of labelled pictures to a judged classifier.
#[derive(Debug, Parser)]
#[command(name = "fieldmark", version, max_term_width = 120, arg_required_else_help = true, after_help = EXAMPLES)]
pub struct Args {
    #[command(subcommand)]
    pub command: Command,
}

const EXAMPLES: &str = "Examples:
  fieldmark quickstart                             fetch real data, train, judge and report
  fieldmark train photos/ --out runs/first         learn from a folder of class folders
  fieldmark predict runs/first/model.safetensors new/*.jpg

Results go to stdout, progress to stderr. Exit codes: 0 done, 1 failed, 2 wrong usage.
FIELDMARK_CACHE is the folder for what is fetched and computed (default: the user's cache folder).";

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Bring a public data set or published weights into the cache
    Fetch(Fetch),
    /// Find what is wrong with a data set, and act on a review
    Audit(Audit),
    /// Say which unlabelled images to label next
    LabelNext(LabelNext),
    /// Find consensus and reliability of several annotators
    Annotators(Annotators),
    /// Copy pictures without their metadata
    StripMetadata(StripMetadata),
    /// Copy pictures with regions blurred beyond recovery, and without metadata
    Anonymise(Anonymise),
    /// Learn a classifier: split, train, judge, report
    Train(Train),
    /// Judge a model on a data set
    Evaluate(Evaluate),
    /// Say what is on pictures
    Predict(Predict),
    /// Describe a model file, a run folder or a data set
    Info(Info),
    /// Write a contact sheet of augmented training images
    AugmentPreview(AugmentPreview),
    /// Time a network on this machine
    Benchmark(Benchmark),
    /// Write a model as ONNX, or as a folder with a model card
    Export(Export),
    /// Make a model file of an ONNX file, with class names and preprocessing
    Import(Import),
    /// Calibrate a model for 8-bit integers on images and write it with what that found
    Quantize(Quantize),
    /// Fetch ELPV and EfficientNet-Lite0, train a probe, judge it by cell type, write the report
    Quickstart(Quickstart),
    /// Print a completion script for a shell
    Completions {
        /// The shell
        shell: Shell,
    },
}

#[derive(Debug, ClapArgs)]
#[command(after_help = "Examples:\n  fieldmark fetch mnist\n  fieldmark fetch --list")]
pub struct Fetch {
    /// mnist, elpv, textile, optdigits, efficientnet_lite0, efficientnet_lite1, efficientnet_lite2
    #[arg(required_unless_present = "list")]
    pub names: Vec<String>,
    /// List what can be fetched, with its licence
    #[arg(long)]
    pub list: bool,
    /// One JSON object a line
    #[arg(long)]
    pub json: bool,
}

/// How a classifier is learned.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Method {
    /// Logistic regression on a frozen, published network: minutes
    Probe,
    /// A published network, its later stages trained on
    Finetune,
    /// A network from random weights
    Scratch,
}

/// What trains.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum Device {
    /// The processor
    #[default]
    Cpu,
    /// An NVIDIA card (needs a build with --features cuda)
    Cuda,
    /// Any card with Vulkan, Metal or DirectX 12 (needs a build with --features wgpu)
    Wgpu,
}

/// How values lie in memory in training.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum TrainingPrecision {
    /// Single precision
    F32,
    /// Half the memory for values and the gradients by them; weights, sums and the loss stay f32 (fine-tuning and from scratch, on the CPU)
    Bf16,
}

/// What is done about copies across splits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum Leaks {
    /// Do not train
    #[default]
    Stop,
    /// Train all the same, and keep a record
    Allow,
    /// Do not look
    Unchecked,
}

/// How a data set is read.
#[derive(Debug, Default, ClapArgs)]
pub struct DataArgs {
    /// Manifests: the column with the class
    #[arg(long, value_name = "NAME")]
    pub label_column: Option<String>,
    /// Manifests: the column with the file
    #[arg(long, value_name = "NAME")]
    pub path_column: Option<String>,
    /// Manifests: the column with the split
    #[arg(long, value_name = "NAME")]
    pub split_column: Option<String>,
    /// Manifests: the column with the group that a split must not divide
    #[arg(long, value_name = "NAME")]
    pub group_column: Option<String>,
}

/// The recipe: a file, and single fields on top.
#[derive(Debug, Default, ClapArgs)]
pub struct RecipeArgs {
    /// A TOML recipe; what it leaves out has its default
    #[arg(long, value_name = "FILE")]
    pub recipe: Option<PathBuf>,
    /// Set one field of the recipe (repeatable)
    #[arg(long, value_name = "SECTION.FIELD=VALUE")]
    pub set: Vec<String>,
}

#[derive(Debug, ClapArgs)]
#[command(after_help = "Examples:
  fieldmark train photos/ --out runs/first
  fieldmark train elpv --folds 5
  fieldmark train mnist --recipe recipes/mnist.toml --out runs/mnist
  fieldmark train photos/ --method finetune --set fit.epochs=5 --set fit.lr=5e-4

An interrupted run goes on when the same command is given again with the same --out.")]
pub struct Train {
    /// A folder of class folders (also under train/, val/, test/), a CSV or TSV manifest, an IDX folder, or a fetched name
    pub data: String,
    #[command(flatten)]
    pub recipe_args: RecipeArgs,
    /// How to learn [default: probe]
    #[arg(long, value_enum)]
    pub method: Option<Method>,
    /// Architecture, or a Fieldmark model file to start from [default: efficientnet_lite0; from scratch tiny_cnn]
    #[arg(long, value_name = "NAME")]
    pub model: Option<String>,
    /// Judge by K-fold cross-validation, out of fold
    #[arg(long, value_name = "K")]
    pub folds: Option<usize>,
    /// Decides splits, weights, order and augmentation [default: 0]
    #[arg(long, value_name = "N")]
    pub seed: Option<u64>,
    /// The run folder [default: runs/DATA-METHOD-1, -2, …]
    #[arg(long, value_name = "RUN")]
    pub out: Option<PathBuf>,
    /// What trains
    #[arg(long, value_enum, default_value_t)]
    pub device: Device,
    /// How values lie in memory in training [default: f32]
    #[arg(long, value_enum)]
    pub precision: Option<TrainingPrecision>,
    /// What to do where images that judge are copies of images that training sees
    #[arg(long, value_enum, default_value_t)]
    pub leaks: Leaks,
    /// Try learning rates from 1e-7 to 10 and suggest one; changes nothing
    #[arg(long)]
    pub find_lr: bool,
    /// One JSON object with all metrics
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub data_args: DataArgs,
}

#[derive(Debug, ClapArgs)]
#[command(after_help = "Examples:
  fieldmark evaluate runs/first/model.safetensors photos/ --split test
  fieldmark evaluate model.safetensors new-photos.csv --slice camera --json")]
pub struct Evaluate {
    /// A model file, a run folder, or the name of published weights
    pub model: String,
    /// The data set
    pub data: String,
    /// Judge on this split only [default: test where there is one, else everything]
    #[arg(long, value_name = "NAME")]
    pub split: Option<String>,
    /// Judge by the values of this column (repeatable) [default: all with few values]
    #[arg(long, value_name = "COLUMN")]
    pub slice: Vec<String>,
    /// Bootstrap replicates behind the intervals
    #[arg(long, value_name = "N", default_value_t = 1000)]
    pub bootstrap: usize,
    /// Seed of the bootstrap
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub seed: u64,
    /// Write the predictions (.csv or .parquet)
    #[arg(long, value_name = "FILE")]
    pub predictions: Option<PathBuf>,
    /// Write an HTML report
    #[arg(long, value_name = "FILE")]
    pub report: Option<PathBuf>,
    /// Numbers to compute with: f32, bf16, int8 (of a model that `fieldmark quantize` wrote) or auto (what it found to be fastest within its
    /// bounds, else f32)
    #[arg(long, value_name = "P", default_value = "auto")]
    pub precision: engine::Precision,
    /// Say where the time went: read, decode, resize, network (on stderr; with --json in the object)
    #[arg(long)]
    pub timings: bool,
    /// One JSON object
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub data_args: DataArgs,
}

#[derive(Debug, ClapArgs)]
#[command(after_help = "Examples:
  fieldmark predict runs/first/model.safetensors photo.jpg more/
  fieldmark predict efficientnet_lite0 photo.jpg --top-k 3
  find . -name '*.png' | fieldmark predict model.safetensors - --json")]
pub struct Predict {
    /// A model file, a run folder, or the name of published weights
    pub model: String,
    /// Files and folders; `-` reads a list from stdin, one path a line
    #[arg(required = true)]
    pub paths: Vec<PathBuf>,
    /// One JSON object a line: path, label, probability, top; or path, error
    #[arg(long, conflicts_with = "csv")]
    pub json: bool,
    /// CSV with a header
    #[arg(long)]
    pub csv: bool,
    /// Classes given for each picture
    #[arg(long, value_name = "K", default_value_t = 5, value_parser = clap::value_parser!(u16).range(1..))]
    pub top_k: u16,
    /// Refuse pictures of more pixels [default: 100000000]
    #[arg(long, value_name = "N")]
    pub max_pixels: Option<u64>,
    /// Numbers to compute with: f32, bf16, int8 (of a model that `fieldmark quantize` wrote) or auto (what it found to be fastest within its
    /// bounds, else f32)
    #[arg(long, value_name = "P", default_value = "auto")]
    pub precision: engine::Precision,
    /// Say on stderr where the time went: read, decode, resize, network (with --json as JSON)
    #[arg(long)]
    pub timings: bool,
}

#[derive(Debug, ClapArgs)]
#[command(after_help = "Examples:\n  fieldmark info runs/first/model.safetensors\n  fieldmark info photos/\n  fieldmark info elpv")]
pub struct Info {
    /// A model file, a run folder, a data set, or the name of something fetched
    pub what: String,
    /// One JSON object
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub data_args: DataArgs,
}

#[derive(Debug, ClapArgs)]
#[command(after_help = "Example:\n  fieldmark augment-preview elpv --recipe recipes/elpv-finetune.toml --out sheet.png")]
pub struct AugmentPreview {
    /// The data set
    pub data: String,
    #[command(flatten)]
    pub recipe_args: RecipeArgs,
    /// Pictures, one a row
    #[arg(long, value_name = "N", default_value_t = 6)]
    pub images: usize,
    /// Variants of each, beside the original
    #[arg(long, value_name = "N", default_value_t = 7)]
    pub variants: usize,
    /// Decides which pictures and variants
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub seed: u64,
    /// The PNG file
    #[arg(long, value_name = "FILE", default_value = "augment-preview.png")]
    pub out: PathBuf,
}

/// What `export` writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ExportFormat {
    /// One ONNX file
    Onnx,
    /// config.json, model.safetensors and README.md in a folder
    Folder,
}

#[derive(Debug, ClapArgs)]
#[command(after_help = "Examples:
  fieldmark export runs/first/model.safetensors model.onnx --verify photos/*.jpg
  fieldmark export efficientnet_lite0 lite0.onnx --softmax --with-preprocessing
  fieldmark export runs/first/ card/ --format folder")]
pub struct Export {
    /// A model file, a run folder, an ONNX file, or the name of published weights or of an architecture (random weights)
    pub model: String,
    /// The ONNX file or the folder
    pub out: PathBuf,
    /// What to write [default: onnx where OUT ends in .onnx, else folder]
    #[arg(long, value_enum)]
    pub format: Option<ExportFormat>,
    /// Version of the ONNX operators, 17 to 23 [default: 17; 18 where the preprocessing resizes]
    #[arg(long, value_name = "N")]
    pub opset: Option<i64>,
    /// Pixels as input: uint8 [N, H, W, C], scaled, normalised and, for models that stretch, resized inside
    #[arg(long)]
    pub with_preprocessing: bool,
    /// Probabilities as output instead of logits
    #[arg(long)]
    pub softmax: bool,
    /// Read the file again and compare its logits on these images with the model's
    #[arg(long, value_name = "IMAGES", num_args = 1..)]
    pub verify: Vec<PathBuf>,
    /// One JSON object
    #[arg(long)]
    pub json: bool,
}

/// How a picture of any shape gets the network's size.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Fit {
    /// Scale the shorter side, take the centre
    Crop,
    /// Stretch both sides
    Stretch,
    /// Fit inside, fill the rest with black
    Letterbox,
}

/// Filters for resizing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Filter {
    /// The nearest pixel
    Nearest,
    /// Linear
    Bilinear,
    /// Cubic, as Pillow
    Bicubic,
    /// A sinc of three lobes
    Lanczos3,
}

#[derive(Debug, ClapArgs)]
#[command(after_help = "Examples:
  fieldmark import resnet18.onnx resnet18.safetensors --labels imagenet_classes.txt
  fieldmark import vit.onnx vit.safetensors --labels config.json --mean 0.5,0.5,0.5 --std 0.5,0.5,0.5 --filter bicubic --crop 0.9

What is not given is taken from the file, and otherwise as for ImageNet; what was assumed is told.")]
pub struct Import {
    /// The ONNX file
    pub file: PathBuf,
    /// The model file to write
    pub out: PathBuf,
    /// Class names in order: a text with one a line, a JSON list, or JSON of index to name (a config.json with id2label)
    #[arg(long, value_name = "FILE")]
    pub labels: Option<PathBuf>,
    /// Height and width in pixels, where the file leaves them open [default: 224]
    #[arg(long, value_name = "H[xW]", value_parser = image_size)]
    pub size: Option<[usize; 2]>,
    /// Subtracted from values in 0 to 1, one a channel
    #[arg(long, value_name = "R,G,B", value_delimiter = ',', allow_negative_numbers = true)]
    pub mean: Vec<f32>,
    /// Divided by afterwards, one a channel
    #[arg(long, value_name = "R,G,B", value_delimiter = ',')]
    pub std: Vec<f32>,
    /// How a picture gets the network's size
    #[arg(long, value_enum)]
    pub fit: Option<Fit>,
    /// With --fit crop: the part of the scaled shorter side that is kept [default: 0.875]
    #[arg(long, value_name = "PART")]
    pub crop: Option<f32>,
    /// The filter that resizes
    #[arg(long, value_enum)]
    pub filter: Option<Filter>,
    /// An image may have several classes: probabilities are sigmoids
    #[arg(long)]
    pub multi_label: bool,
    /// One JSON object
    #[arg(long)]
    pub json: bool,
}

/// `224` or `224x192`.
fn image_size(text: &str) -> Result<[usize; 2], String> {
    let side = |text: &str| text.trim().parse().ok().filter(|&side| side > 0);
    let sides = match text.split_once(['x', '×']) {
        Some((h, w)) => side(h).zip(side(w)),
        None => side(text).map(|side| (side, side)),
    };
    sides.map(|(h, w)| [h, w]).ok_or_else(|| "expected a side or HEIGHTxWIDTH in pixels, as in 224 or 224x192".into())
}

#[derive(Debug, ClapArgs)]
#[command(after_help = "Examples:
  fieldmark benchmark efficientnet_lite0 --batch 8 --threads 2
  fieldmark benchmark runs/first/model.safetensors --json

One run is one batch through the network, from values to values; nothing is decoded.")]
pub struct Benchmark {
    /// A model file, a run folder, the name of published weights, or an architecture (random weights)
    pub model: String,
    /// Images in a batch
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = positive)]
    pub batch: usize,
    /// Numbers to compute with: f32, bf16, int8 (as the model is calibrated, else on noise) or auto
    #[arg(long, value_name = "P", default_value = "f32")]
    pub precision: engine::Precision,
    /// Threads; 0 is one for each core
    #[arg(long, value_name = "T", default_value_t = 0)]
    pub threads: usize,
    /// Timed runs, after five to warm up
    #[arg(long, value_name = "R", default_value_t = 30, value_parser = positive)]
    pub runs: usize,
    /// One JSON object
    #[arg(long)]
    pub json: bool,
}

/// A share below 1.
fn share(text: &str) -> Result<f64, String> {
    text.parse().ok().filter(|s| (0.0..1.0).contains(s)).ok_or_else(|| "expected a share from 0 to below 1, as in 0.95".into())
}

#[derive(Debug, ClapArgs)]
#[command(after_help = "Examples:
  fieldmark quantize runs/first/model.safetensors --data photos/
  fieldmark quantize efficientnet_lite0 --data elpv --method percentile --bound 98 --out lite0-int8.safetensors
  fieldmark predict lite0-int8.safetensors photo.jpg --precision int8

Graph and weights stay as they were. Where predict and evaluate are given no --precision, they take the fastest that was within the bounds
on images that calibrated nothing. Stopped early, it writes nothing.")]
pub struct Quantize {
    /// A model file, a run folder, an ONNX file, or the name of published weights
    pub model: String,
    /// Pictures like those to come: a folder, or a data set; labels are not used
    #[arg(long, value_name = "DATA")]
    pub data: String,
    /// How ranges of activations are chosen: minmax, percentile or entropy [default: whichever comes closest]
    #[arg(long, value_name = "METHOD")]
    pub method: Option<engine::quantize::Method>,
    /// Images that calibrate; up to 192 others choose method and width, up to 512 further ones judge
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = positive)]
    pub images: usize,
    /// Least agreement with f32 on the most probable class, in percent
    #[arg(long, value_name = "PERCENT", default_value_t = 99.0, value_parser = percent)]
    pub bound: f64,
    /// Largest mean error of the logits, in percent of their range
    #[arg(long, value_name = "PERCENT", default_value_t = 2.0, value_parser = percent)]
    pub logit_bound: f64,
    /// Layers that may stay in f32 to keep the bounds
    #[arg(long, value_name = "N", default_value_t = 8)]
    pub max_kept: usize,
    /// The model file to write [default: MODEL-int8.safetensors beside the model]
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
    /// Calibrate a model anew that is quantised already
    #[arg(long)]
    pub again: bool,
    /// Threads; 0 is one for each core
    #[arg(long, value_name = "T", default_value_t = 0)]
    pub threads: usize,
    /// One JSON object
    #[arg(long)]
    pub json: bool,
}

/// A share in percent.
fn percent(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(share) if (0.0..=100.0).contains(&share) => Ok(share),
        _ => Err("expected a number from 0 to 100".into()),
    }
}

/// A whole number from 1.
fn positive(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(0) | Err(_) => Err("expected a whole number from 1".into()),
        Ok(number) => Ok(number),
    }
}

#[derive(Debug, ClapArgs)]
#[command(after_help = "Examples:
  fieldmark audit photos/ --out runs/audit
  fieldmark audit photos/ --json --fail-on leak,label>0.02
  fieldmark audit photos/ --self-test
  fieldmark audit photos/ --judge one.toml --judge other.toml --folds 10 --repeats 3
  fieldmark audit photos/ --propose plan.csv
  fieldmark audit photos/ --apply plan.csv --compare
  fieldmark audit photos/ --apply plan.csv --compare --recipe recipe.toml

The report is a page on which findings are reviewed with the keyboard; it exports plan.csv. No image is ever changed or deleted.")]
pub struct Audit {
    /// The data set
    pub data: String,
    /// The folder for the report and the findings [default: runs/DATA-audit-1, -2, …]
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
    /// The network whose features are compared: published weights, a model file or a run folder [default: efficientnet_lite0]
    #[arg(long, value_name = "MODEL")]
    pub model: Option<String>,
    /// Folds of what judges labels; 1 predicts the same images that it learned from (LabelFix)
    #[arg(long, value_name = "K", default_value_t = 5, value_parser = positive)]
    pub folds: usize,
    /// Judge labels this many times with other folds, and average
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = positive)]
    pub repeats: usize,
    /// Judge labels by networks trained with this recipe (finetune or scratch) instead of a probe; repeatable, with unlike networks: their mean
    #[arg(long, value_name = "RECIPE")]
    pub judge: Vec<PathBuf>,
    /// The accuracy for which the number of images needed is estimated; 0 skips the learning curve
    #[arg(long, value_name = "SHARE", default_value_t = 0.95, value_parser = share)]
    pub target: f64,
    /// Images on the map of the features, at most; 0 draws none
    #[arg(long, value_name = "N", default_value_t = 10_000)]
    pub map: usize,
    /// Decides folds, permutations and the bootstrap
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub seed: u64,
    /// Set one threshold, as in dark=0.2, cosine=0.95, rule=prune_by_class (repeatable; docs/audit.md lists them)
    #[arg(long, value_name = "CHECK=VALUE")]
    pub set: Vec<String>,
    /// Exit with 1 where a check finds anything, or more than a share: leak,label>0.02
    #[arg(long, value_name = "CHECKS")]
    pub fail_on: Option<String>,
    /// Leave out what this plan of an earlier review settles
    #[arg(long, value_name = "PLAN")]
    pub plan: Option<PathBuf>,
    /// Write a plan that takes every suggested label, for a reviewer to correct (test splits are left alone)
    #[arg(long, value_name = "PLAN", conflicts_with_all = ["apply", "self_test"])]
    pub propose: Option<PathBuf>,
    /// Write the manifest that a reviewed plan makes of the data set
    #[arg(long, value_name = "PLAN", conflicts_with_all = ["plan", "self_test"])]
    pub apply: Option<PathBuf>,
    /// The new manifest [default: reviewed.csv in the data set's folder]
    #[arg(long, value_name = "FILE", requires = "apply")]
    pub manifest: Option<PathBuf>,
    /// Train a probe before and after the plan and give the gain with its interval
    #[arg(long, requires = "apply")]
    pub compare: bool,
    /// What --compare trains instead of a probe
    #[arg(long, value_name = "RECIPE", requires = "compare")]
    pub recipe: Option<PathBuf>,
    /// Inject faults into a copy in memory and report what each check finds of them
    #[arg(long)]
    pub self_test: bool,
    /// One JSON object a line: id, path, check, score, given, suggested, group, detail
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub data_args: DataArgs,
}

/// How images to label are chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum Choice {
    /// The largest entropy of the probabilities
    Uncertainty,
    /// The least lead of the likeliest class over the next
    Margin,
    /// The furthest from all that is labelled or chosen
    Coreset,
    /// The furthest apart among those of least lead
    #[default]
    Mixed,
}

#[derive(Debug, ClapArgs)]
#[command(after_help = "Examples:
  fieldmark label-next photos.csv --count 100 --csv > next.csv      (rows without a label are the candidates)
  fieldmark label-next photos/ --pool unlabelled/ --by margin
  fieldmark label-next photos/ --simulate                           (what choosing would have brought against random choice)")]
pub struct LabelNext {
    /// The data set; its images without a label are candidates
    pub data: String,
    /// Folders or files of further candidates
    #[arg(long, value_name = "PATH", num_args = 1..)]
    pub pool: Vec<PathBuf>,
    /// How many to choose (with --simulate: in each round)
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = positive)]
    pub count: usize,
    /// How they are chosen
    #[arg(long, value_enum, default_value_t)]
    pub by: Choice,
    /// The network whose features are used: published weights, a model file or a run folder [default: efficientnet_lite0]
    #[arg(long, value_name = "MODEL")]
    pub model: Option<String>,
    /// Replay the choice on labelled images and give its curve beside that of random choice
    #[arg(long, conflicts_with = "pool")]
    pub simulate: bool,
    /// With --simulate: images labelled at the start
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = positive)]
    pub start: usize,
    /// With --simulate: rounds
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = positive)]
    pub rounds: usize,
    /// Decides draws
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub seed: u64,
    /// One JSON object a line
    #[arg(long, conflicts_with = "csv")]
    pub json: bool,
    /// CSV with a header
    #[arg(long)]
    pub csv: bool,
    #[command(flatten)]
    pub data_args: DataArgs,
}

#[derive(Debug, ClapArgs)]
#[command(after_help = "Examples:
  fieldmark annotators votes.csv --out consensus.csv
  fieldmark annotators votes.csv --predictions runs/audit/predictions.csv --out consensus.csv

votes.csv has the columns id, annotator and label, one vote a row. Without predictions annotators are judged by one another
(Dawid and Skene 1979), with out-of-fold predictions of a classifier by both (CROWDLAB). `fieldmark audit` writes such predictions.")]
pub struct Annotators {
    /// The votes (.csv or .tsv)
    pub votes: PathBuf,
    /// Out-of-fold predictions of a classifier for the same ids (.csv or .parquet)
    #[arg(long, value_name = "FILE")]
    pub predictions: Option<PathBuf>,
    /// Write the consensus: path, label, quality, agreement, votes
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
    /// One JSON object
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, ClapArgs)]
#[command(after_help = "Examples:
  fieldmark strip-metadata photos/ --out clean/
  fieldmark strip-metadata a.jpg b.png --out clean/

JPEG, PNG, WebP and BMP: the picture itself is copied byte for byte; colour profile, transparency and orientation stay.
Originals are never changed, and no file is overwritten.")]
pub struct StripMetadata {
    /// Pictures, and folders of them
    #[arg(required = true, value_name = "PICTURES")]
    pub paths: Vec<PathBuf>,
    /// The folder for the copies; those of a folder keep their places in it
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
    /// One JSON object
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, ClapArgs)]
#[command(after_help = "Example:
  fieldmark anonymise photos/ --regions faces.csv --out shared/

faces.csv has the columns path, x, y, w and h: a picture's path below photos/, and a rectangle in pixels of the upright picture from its
upper left corner; one row a rectangle. Each rectangle is reduced to at most 5×5 colours. All pictures of the folder are copied, those without
rectangles too, as PNG or (quality 95) JPEG. Faces are not searched for: what no row names stays visible.
Originals are never changed, and no file is overwritten.")]
pub struct Anonymise {
    /// The folder of pictures
    pub folder: PathBuf,
    /// What to blur: a CSV with the columns path, x, y, w, h
    #[arg(long, value_name = "CSV")]
    pub regions: PathBuf,
    /// The folder for the copies; each keeps its place
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
    /// One JSON object
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, ClapArgs)]
pub struct Quickstart {
    /// The run folder [default: runs/quickstart, -2, …]
    #[arg(long, value_name = "RUN")]
    pub out: Option<PathBuf>,
    /// Decides the split
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub seed: u64,
    /// One JSON object with all metrics
    #[arg(long)]
    pub json: bool,
}
