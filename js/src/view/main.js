/**
 * What the loader imports: the connection to a machine, and the view of it.
 */

export { connect } from "./connection.js";
export { show } from "./show.js";
