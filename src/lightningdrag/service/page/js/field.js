// The analytic displacement of lightningdrag/warp.py: Shepard's interpolation, weights 1 / distance^3.
//
//   d(p) = sum_drags w_k (handle_k - target_k) / (sum_drags w_k + sum_anchors w_j)
//
// It is backward: output pixel p shows source pixel p + d(p). The anchors' sum is kept on a coarse grid as
// the one distance that has the same weight, which interpolates well; the drags are summed where p is.

const LEAST_SQUARED = 1e-4;

/**
 * How far the anchors are, all together: the distance r for which 1 / r^3 is the sum of their weights.
 * @param {Float32Array} anchors x, y, x, y, ... of points that stand still
 * @param {{x: number, y: number, step: number, width: number, height: number}} grid first point, spacing, size
 * @returns {Float32Array} row by row, in pixels
 */
export function anchorDistance(anchors, grid) {
  const distance = new Float32Array(grid.width * grid.height);
  for (let row = 0; row < grid.height; row++) {
    const y = grid.y + row * grid.step;
    for (let column = 0; column < grid.width; column++) {
      const x = grid.x + column * grid.step;
      let sum = 0;
      for (let k = 0; k < anchors.length; k += 2) sum += weight(x - anchors[k], y - anchors[k + 1]);
      distance[row * grid.width + column] = sum > 0 ? 1 / Math.cbrt(sum) : 1e9;
    }
  }
  return distance;
}

/**
 * The displacement at a point, as the shader computes it, for the tests that hold both to warp.py.
 * @param {{handle: number[], target: number[]}[]} drags
 * @param {{grid: object, distance: Float32Array}} plan
 */
export function displacementAt(drags, { grid, distance }, [x, y]) {
  let dx = 0;
  let dy = 0;
  let sum = 1 / interpolated(grid, distance, x, y) ** 3;
  for (const { handle, target } of drags) {
    const near = weight(x - target[0], y - target[1]);
    dx += near * (handle[0] - target[0]);
    dy += near * (handle[1] - target[1]);
    sum += near;
  }
  return [dx / sum, dy / sum];
}

function weight(x, y) {
  const squared = Math.max(x * x + y * y, LEAST_SQUARED);
  return 1 / (squared * Math.sqrt(squared));
}

function interpolated(grid, values, x, y) {
  const u = Math.min(Math.max((x - grid.x) / grid.step, 0), grid.width - 1);
  const v = Math.min(Math.max((y - grid.y) / grid.step, 0), grid.height - 1);
  const column = Math.min(Math.floor(u), grid.width - 2);
  const row = Math.min(Math.floor(v), grid.height - 2);
  const at = row * grid.width + column;
  const above = values[at] * (1 - u + column) + values[at + 1] * (u - column);
  const below = values[at + grid.width] * (1 - u + column) + values[at + grid.width + 1] * (u - column);
  return above * (1 - v + row) + below * (v - row);
}
