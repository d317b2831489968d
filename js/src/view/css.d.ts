/** A style sheet is bundled as its text: the view puts it into its own shadow root. */
declare module "*.css" {
    const text: string;
    export default text;
}
