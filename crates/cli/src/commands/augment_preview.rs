//! `fieldmark augment-preview`.

use anyhow::{Result, bail};
use images::{DecodeOptions, Image, encode_png, labelled_contact_sheet};
use learn::{Backbone, Look, Method};

use super::train::read_recipe;
use crate::args::{self, DataArgs};
use crate::open;
use crate::output;

pub fn run(args: &args::AugmentPreview) -> Result<()> {
    let mut recipe = read_recipe(args.recipe_args.recipe.as_ref(), &args.recipe_args.set)?;
    if recipe.augment.is_none() {
        if args.recipe_args.recipe.is_some() {
            eprintln!("warning: the recipe varies nothing; showing the standard augmentation");
        }
        recipe.augment = images::Augment::standard();
    }
    let dataset = open::dataset(&args.data, &DataArgs::default(), false)?;
    let order = data::sampler::shuffled(&(0..dataset.len()).collect::<Vec<_>>(), args.seed, 0);
    let decode = DecodeOptions { background: recipe.network.background, ..DecodeOptions::default() };
    let (mut chosen, mut problem) = (Vec::<(usize, Image)>::new(), None);
    for index in order {
        if chosen.len() == args.images.max(1) {
            break;
        }
        match dataset.image(index, &decode) {
            Ok(image) => chosen.push((index, image)),
            Err(error) => problem = problem.or(Some(error)),
        }
    }
    let Some((_, first)) = chosen.first() else {
        let reason = problem.map_or_else(String::new, |error| format!("; the first: {error}"));
        bail!("{}: none of the {} images could be read{reason}", args.data, dataset.len());
    };
    let look = Look { size: [first.height(), first.width()], gray: chosen.iter().all(|(_, m)| m.channels() == 1) };
    // Only the preprocessing matters here, so no weights are needed.
    let mut drawn = recipe.clone();
    if recipe.method != Method::Scratch {
        drawn.model = Some(recipe.model_name().to_string());
    }
    let preprocess = Backbone::untrained(&drawn, dataset.classes.len(), &look)?.preprocess;
    let (mut cells, mut labels) = (Vec::new(), Vec::new());
    for (index, image) in &chosen {
        let class = dataset.samples[*index].target.as_ref().and_then(|t| t.argmax()).and_then(|k| dataset.classes.name(k));
        labels.push(format!("{}  {}", dataset.samples[*index].id, class.unwrap_or("")));
        cells.push(preprocess.to_image(&preprocess.apply(image)));
        let variant = |epoch| recipe.augment.apply(image, &preprocess, args.seed, *index as u64, epoch);
        cells.extend((0..args.variants as u64).map(|epoch| preprocess.to_image(&variant(epoch))));
    }
    let cells: Vec<Image> = cells.iter().map(|cell| cell.thumbnail(160)).collect();
    let sheet = labelled_contact_sheet(&cells, args.variants + 1, 6, [255; 3], &labels);
    output::file(&args.out, encode_png(&sheet))?;
    output::line(&format!("{}: {} images, each with {} variants (seed {})", args.out.display(), chosen.len(), args.variants, args.seed))
}
