//! Pictures of weight matrices: the weights, what they are apart from the experts' mean, and what they have moved.

/// Most rows and columns of a picture.
const CELLS: usize = 128;

/// What a picture shows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum MapOf {
    /// W_j.
    #[default]
    Weights,
    /// W_j minus the mean of all experts.
    FromMean,
    /// W_j minus W_j before the first step.
    FromStart,
}

impl MapOf {
    /// All, in the order of [`HeatMap::cells`].
    pub const ALL: [Self; 3] = [Self::Weights, Self::FromMean, Self::FromStart];
}

/// One cell of a picture: the weight in it whose value in this picture is largest, for averages would hide outliers.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct MapCell {
    /// Place of the weight in the matrix, row by row.
    pub at: u32,
    /// Its value.
    pub weight: f32,
    /// The mean of all experts there.
    pub mean: f32,
    /// Its value before the first step.
    pub start: f32,
}

impl MapCell {
    /// What a picture shows of it.
    pub fn value(&self, of: MapOf) -> f32 {
        match of {
            MapOf::Weights => self.weight,
            MapOf::FromMean => self.weight - self.mean,
            MapOf::FromStart => self.weight - self.start,
        }
    }
}

/// A weight matrix, reduced to at most 128 x 128 cells.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct HeatMap {
    /// Rows of the reduced picture.
    pub rows: usize,
    /// Columns of the reduced picture.
    pub cols: usize,
    /// One list for each of [`MapOf::ALL`]. `[rows * cols]` each
    pub cells: [Vec<MapCell>; 3],
}

impl HeatMap {
    /// Of one expert's weights, the mean of all experts, and its own weights before the first step. `[rows, cols]` each, row by row
    pub fn of(weight: &[f32], mean: &[f32], start: &[f32], rows: usize, cols: usize) -> Self {
        let (height, width) = (rows.min(CELLS), cols.min(CELLS));
        let mut cells = MapOf::ALL.map(|_| vec![MapCell::default(); height * width]);
        let mut empty = MapOf::ALL.map(|_| vec![true; height * width]);
        let values = weight.iter().zip(mean).zip(start).take(rows * cols).enumerate();
        for (at, ((&weight, &mean), &start)) in values {
            let place = (at / cols * height / rows) * width + at % cols * width / cols;
            let cell = MapCell { at: at as u32, weight, mean, start };
            for ((of, cells), empty) in MapOf::ALL.into_iter().zip(&mut cells).zip(&mut empty) {
                let (new, old) = (cell.value(of), cells[place].value(of));
                // A value that is no number stays.
                if empty[place] || new.is_nan() || new.abs() > old.abs() {
                    (cells[place], empty[place]) = (cell, false);
                }
            }
        }
        Self { rows: height, cols: width, cells }
    }

    /// The cells of one picture. `[rows * cols]`
    pub fn cells(&self, of: MapOf) -> &[MapCell] {
        &self.cells[of as usize]
    }

    /// Largest absolute value of one picture; what is not finite does not count.
    pub fn largest(&self, of: MapOf) -> f32 {
        let values = self.cells(of).iter().map(|cell| cell.value(of).abs());
        values.filter(|value| value.is_finite()).fold(0.0, f32::max)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(map: &HeatMap, of: MapOf) -> Vec<f32> {
        map.cells(of).iter().map(|cell| cell.value(of)).collect()
    }

    #[test]
    fn each_picture_is_its_difference() {
        let map = HeatMap::of(&[1.0, -2.0, 3.0, 4.0], &[1.0, 1.0, 1.0, 5.0], &[0.5, 0.0, 3.0, 0.0], 2, 2);
        assert_eq!(values(&map, MapOf::Weights), [1.0, -2.0, 3.0, 4.0]);
        assert_eq!(values(&map, MapOf::FromMean), [0.0, -3.0, 2.0, -1.0]);
        assert_eq!(values(&map, MapOf::FromStart), [0.5, -2.0, 0.0, 4.0]);
        assert_eq!(map.cells(MapOf::FromMean)[3], MapCell { at: 3, weight: 4.0, mean: 5.0, start: 0.0 });
        assert_eq!((map.largest(MapOf::Weights), map.largest(MapOf::FromMean)), (4.0, 3.0));
    }

    #[test]
    fn a_large_matrix_is_reduced_and_each_picture_keeps_its_own_outliers() {
        let (rows, cols) = (300, 1000);
        let mut weight = vec![0.01f32; rows * cols];
        weight[299 * cols + 999] = -5.0;
        weight[0] = 4.0;
        let mut start = weight.clone();
        start[7] = 1.01;
        let map = HeatMap::of(&weight, &weight, &start, rows, cols);
        let own = map.cells(MapOf::Weights);
        assert_eq!((map.rows, map.cols, own.len()), (128, 128, 128 * 128));
        assert_eq!((own[0].at, own[0].weight, own[128 * 128 - 1].weight), (0, 4.0, -5.0));
        assert_eq!(own.iter().filter(|cell| cell.weight.abs() > 1.0).count(), 2);
        let moved = map.cells(MapOf::FromStart)[0];
        assert_eq!((moved.at, moved.value(MapOf::FromStart)), (7, -1.0), "another weight of the same cell");
        let poisoned = HeatMap::of(&[1.0, f32::NAN], &[0.0; 2], &[0.0; 2], 1, 2);
        assert!(values(&poisoned, MapOf::FromMean)[1].is_nan() && poisoned.largest(MapOf::FromMean) == 1.0);
    }
}
